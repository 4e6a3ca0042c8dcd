"""LiteRT (.tflite) files: the import door in `read`, the export door in `write`, and the schema that both go by."""
