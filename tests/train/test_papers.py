"""Our runs below the tables of the papers: rows of the same network and the same figures."""

import json

from tests.train.report_fixture import OTHERS, asked, compare, write
from train.page.papers import hdcnn, hiernet


def _change(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_elu_runs_stand_below_the_elu_table(tmp_path):
    """A HierNet with ELU is compared with the paper's Table 2, one with ReLU with its Table 1."""
    folder = write(
        tmp_path,
        seeds=(0,),
        each=4,
        catalog=False,
        runs={"hiernet": asked("hiernet", "modularity")},
    )
    path = folder.results_dir / "hiernet" / "0" / "model.json"
    params = json.loads(path.read_text())["params"]

    def rows():
        loaded, compared = compare(folder)
        made = hiernet.part(loaded, compared, [compared.hierarchies[0]])
        return [row[:3] for row in made.tables[0].rows]

    assert ("published, n = 5", "resnet32", "67.08") == rows()[0]
    _change(path, params=params | {"backbone": {"act": "elu"}})

    assert ("published, n = 5", "resnet32, elu", "67.88") == rows()[0]
    assert ("here (hiernet)", "resnet32, elu") == rows()[1][:2]


def test_errors_over_ten_views_stand_beside_the_papers(tmp_path):
    """Runs with a figure of ten views have its error, and the points below that of flat."""
    folder = write(tmp_path, seeds=(0,), each=4, catalog=False, runs={"hdcnn": OTHERS["hdcnn"]})
    for run, accuracy in (("flat", 0.60), ("hdcnn", 0.64)):
        _change(folder.results_dir / run / "0" / "metrics.json", msr_ten_views=accuracy)
    loaded, compared = compare(folder)
    rows = hdcnn.part(loaded, compared, [compared.hierarchies[0]]).tables[0].rows

    assert ("here, flat", "40.00") == rows[-3][:2]
    assert ("here (hdcnn)", "36.00", "+4.00") == (*rows[-2][:2], rows[-2][3])
    assert ("here (hdcnn (full))", "") == rows[-1][:2]
