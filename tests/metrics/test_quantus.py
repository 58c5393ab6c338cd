"""The function that Quantus calls, called as Quantus calls it: by keyword, in its layouts."""

import numpy as np
import pytest

from xplique_sal import GradientInput, Saliency
from xplique_sal.errors import InvalidParameterError
from xplique_sal.quantus import explain_func


def test_maps_are_the_explainers_in_the_layout_of_quantus(keras, rng):
    layers = [keras.layers.Input((4, 5, 3)), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(3)])
    x, y = rng.normal(size=(2, 4, 5, 3)).astype("float32"), np.array([2, 0])
    expected = Saliency(model)(x, y).numpy()[..., 0]
    found = explain_func(model=model, inputs=x, targets=y, device=None)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)
    turned = explain_func(model=model, inputs=np.moveaxis(x, -1, 1), targets=y, method="Saliency")
    np.testing.assert_array_equal(turned, expected)
    options = {"reducer": None, "batch_size": 1}
    whole = explain_func(model=model, inputs=x, targets=y, method=GradientInput, **options)
    np.testing.assert_allclose(whole, GradientInput(model, reducer=None)(x, y), rtol=1e-6)
    before = found
    model.set_weights([2 * weight for weight in model.get_weights()])
    again = explain_func(model=model, inputs=x, targets=y)
    np.testing.assert_allclose(again, 2 * before, rtol=1e-6)


def test_methods_that_do_not_exist(keras):
    for wrong in ("Salience", 3):
        with pytest.raises(InvalidParameterError, match="method"):
            explain_func(model=None, inputs=np.ones((1, 2)), targets=[0], method=wrong)
