"""Data that needs no download: ``shapes`` draws a small detection data set in COCO's format."""
