"""What several tests share: oracles, layers and tiny detectors, tiny data, snapshots, processes."""
