"""Where pretrained weights come from: looked up, downloaded, read into a network."""
