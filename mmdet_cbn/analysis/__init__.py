"""What the norms of any model do, as numbers and pictures.

Packages:
    statistics: what layers normalize by along a run.
    compensation: how good CBN's correction of earlier statistics is, and what it rests on.
"""
