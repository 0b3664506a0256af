"""Models that 0.1.0 saved."""

import keras


@keras.saving.register_keras_serializable(package="keras_t2t")
class ArrangedModel(keras.Model):
    """The class that files of 0.1.0 name. Reading one gives a plain functional model."""

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return keras.Model.from_config(config, custom_objects=custom_objects)
