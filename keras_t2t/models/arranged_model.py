"""Models that 0.1.0 saved."""

import keras


@keras.saving.register_keras_serializable(package="keras_t2t")
class ArrangedModel(keras.Model):
    """The class that files of 0.1.0 name. Reading one gives a plain functional model.

    Keras finds the weights of a model within a model by the name of its class: until they are
    read, the model keeps that of the file.
    """

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The plain model, of a class that is called as this one until its weights are read."""
        model = keras.Model.from_config(config, custom_objects=custom_objects)
        plain = type(model)

        def load_own_variables(self, store):
            self.__class__ = plain
            self.load_own_variables(store)

        model.__class__ = type(cls.__name__, (plain,), {"load_own_variables": load_own_variables})
        return model
