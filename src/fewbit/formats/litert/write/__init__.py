"""The export door: a hub, in float or with QuantizeLinear and DequantizeLinear, becomes a .tflite file."""

from fewbit.formats.litert.write.door import Written, convert, write_litert

__all__ = ["Written", "convert", "write_litert"]
