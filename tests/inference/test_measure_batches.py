import numpy as np
import torch

from fastcell.inference.measure_batches import measure_batches
from fastcell.inference.unlike.image_features import network_image_features
from fastcell.loading.batch import Batch
from fastcell.models.lightning_module import CellModule


def batch(first, weight):
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(first))
    return Batch(images, torch.arange(4) % 3, torch.arange(first, first + 4), torch.tensor(weight))


def test_all_columns_of_the_cells_that_count():
    torch.manual_seed(0)
    model = CellModule(classes=["a", "b", "c"], preprocessing={"image_size": 16}, tta=True).eval()
    batches = [batch(0, [1.0, 1.0, 0.0, 1.0]), batch(4, [1.0, 0.0, 0.0, 0.0])]
    found = measure_batches(model, batches, threads=2)
    assert found.cell_ids.tolist() == [0, 1, 3, 4]
    assert found.labels.tolist() == [0, 1, 0, 0]
    images = torch.cat([batches[0].images[[0, 1, 3]], batches[1].images[:1]])
    np.testing.assert_array_equal(found.image, network_image_features(images.numpy()))
    with torch.inference_mode():
        features, _ = model.features_and_logits(images)
        np.testing.assert_allclose(found.network, features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.probabilities, model.predict_probabilities(images), rtol=1e-5, atol=1e-6)


def test_a_network_of_half_precision_gets_images_of_its_type():
    model = CellModule(classes=["a", "b"], preprocessing={"image_size": 16}).eval().to(torch.bfloat16)
    found = measure_batches(model, [batch(0, [1.0] * 4)], threads=1)
    assert found.network.dtype == found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.image, network_image_features(batch(0, [1.0] * 4).images.numpy()))
