"""Train segmentation networks with spatially sensitive losses and score them with the weighted F-measure."""
