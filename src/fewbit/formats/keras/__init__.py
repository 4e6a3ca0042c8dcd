"""Keras files and SavedModels: an import door by way of TensorFlow's own converter to LiteRT."""
