"""`medfathom.fit`: from a folder of images to a model, in one call; a second call finds it again."""

from pathlib import Path

import pytest

import medfathom
from medfathom.errors import InputError
from medfathom.own_data import definition_for
from medfathom.samples import write_samples_of_data

pytestmark = pytest.mark.slow


def test_a_folder_becomes_a_model_that_predicts(workdir: Path) -> None:
    samples = write_samples_of_data(workdir / "s")
    path, written = definition_for(samples.scans)
    assert written is not None
    small = path.read_text().replace("epochs = 5", "epochs = 1").replace("image_size = 64", "image_size = 32")
    path.write_text(small)
    model = medfathom.fit(samples.scans, trials=2)
    predictions = model.predict(samples.new_scans)
    assert len(predictions.names) == 12
    assert predictions.class_names == model.config.class_names
    assert Path("oct-scans-model/README.md").is_file()
    again = medfathom.fit(samples.scans, trials=2)
    assert (again.config.trial, again.config.seed) == (model.config.trial, model.config.seed)
    with pytest.raises(InputError, match="no model folder"):
        medfathom.fit(samples.scans, trials=2, out=samples.scans)
