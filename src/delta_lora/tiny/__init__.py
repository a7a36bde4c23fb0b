"""The tiny scale: generated data sets and miniature pretrained models, made by the project itself."""
