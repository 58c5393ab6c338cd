"""What an explanation tells beside its maps: the scores, and the model's largest outputs."""

import numpy as np
import pytest

from xplique_sal import GradCAM, IntegratedGradients, Occlusion, Saliency, SmoothGrad
from xplique_sal.attributions import DeepLift


@pytest.fixture
def model(keras):
    return keras.Sequential(
        [
            keras.layers.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )


@pytest.mark.parametrize(
    "method",
    [
        *(Saliency, GradCAM, Occlusion, DeepLift),
        lambda m: IntegratedGradients(m, steps=60),
    ],
)
def test_scores_and_largest_outputs_come_with_the_maps(model, method, rng):
    x = rng.random((7, 6, 6, 1)).astype("float32")
    outputs = model.predict(x, verbose=0)
    told = method(model)._told(x)
    np.testing.assert_array_equal(told.largest, outputs.argmax(1))
    np.testing.assert_allclose(told.scores, outputs.max(1), rtol=1e-5)
    np.testing.assert_array_equal(told.maps, method(model).explain(x))
    given = method(model)._told(x, np.zeros(7, int))
    np.testing.assert_allclose(given.scores, outputs[:, 0], rtol=1e-4, atol=1e-6)
    assert given.largest is None or (given.largest == outputs.argmax(1)).all()


def test_an_operator_of_ones_own_has_no_largest_output(model, rng):
    x = rng.random((3, 6, 6, 1)).astype("float32")
    told = Saliency(model, operator=lambda f, x, y: f(x)[:, 0])._told(x)
    assert told.largest is None


def test_parts_of_the_data_are_explained_as_the_whole(model, rng):
    x = rng.random((9, 6, 6, 1)).astype("float32")
    explainer = SmoothGrad(model, nb_samples=3, seed=1, batch_size=4)
    whole = explainer.explain(x).numpy()
    parts = [explainer._told(x[start : start + 4], first=start).maps for start in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.abs(explainer._told(x[4:8]).maps - whole[4:8]).max() > 0
