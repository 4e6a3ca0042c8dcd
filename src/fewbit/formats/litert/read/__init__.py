"""The import door of LiteRT: `read_litert` makes a hub of a .tflite file."""
