"""Brain-encoding models: from images to voxel responses."""
