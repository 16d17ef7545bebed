"""From a metadata table and a folder of images to a validated manifest, its split and its pairs."""
