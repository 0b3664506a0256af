"""Passes lines from stdin on to stderr, but for what image decoders say of damaged files.

A program of its own, which `console.without_decoder_lines` starts: what a process that crashes
wrote last still gets through.
"""

import re
import sys

DECODER_LINES = re.compile(
    rb"""
    # libjpeg, in TensorFlow: `jerror.h` has all its messages.
    (Corrupt|Empty|Unsupported)\ JPEG\ | Not\ a\ JPEG\ file | Improper\ call\ to\ JPEG\ library
    | Premature\ end\ of\ (JPEG|input)\ file | (Input|Empty)\ (input\ )?file(\ read\ error)?$
    | Bogus\ (buffer|DAC|DHT|DQT|Huffman|input|JPEG|marker|param|sampling|virtual)
    | Invalid\ (JPEG|SOS|color|component|crop|memory\ pool|progressive|scan)
    | Unsupported\ (color\ conversion|marker) | Unknown\ Adobe\ color | Warning:\ unknown\ JFIF
    | (Huffman|Quantization|Arithmetic)\ table\ 0x | (Huffman|Missing\ Huffman)\ code
    | Inconsistent\ progression | Sampling\ factors | Maximum\ supported\ image
    | (DCT|IDCT|CCIR601|Fractional)\ [a-z] | Too\ many\ color | Sorry,\ arithmetic
    | Image\ too\ wide | Suspension\ not | Didn't\ expect\ more | Application\ transferred
    # libtiff, in Pillow: a function or the file's name, which Pillow makes up.
    | (tempfile\.tif
      | \w*(TIFF|Decode|Dir|Strip|Tag|IFD|Missing|Setup|JPEG|Fax|LZ|ZIP|ZSTD|Predictor)\w*):\ .*\.$
    # TensorFlow's own words about what libjpeg and others return.
    | [IWE]\d{4}\ .*\b(jpeg|png|gif|bmp|webp)_\w+\.cc:\d+\]
    """,
    re.VERBOSE,
)

if __name__ == "__main__":
    for line in sys.stdin.buffer:
        if not DECODER_LINES.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
