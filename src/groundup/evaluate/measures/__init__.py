"""What is measured of the models, one file each."""
