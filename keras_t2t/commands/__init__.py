"""The `keras-t2t` command: one file a command, none of which imports Keras before it must."""
