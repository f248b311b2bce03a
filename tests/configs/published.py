"""What papers and repositories print for the rows of ``expected.py``, looked up in configs/papers.yml."""

from pathlib import Path
from typing import Any

from mmengine.fileio import load

from tests.configs.expected import CBN_PAPER, Row

PAPERS = load(Path(__file__).parents[2] / 'configs/papers.yml')
COLUMNS = {
    'ap_bbox': 'box AP',
    'ap50_bbox': 'box AP50',
    'ap75_bbox': 'box AP75',
    'aps_bbox': 'box AP S',
    'apm_bbox': 'box AP M',
    'apl_bbox': 'box AP L',
    'ap_mask': 'mask AP',
    'ap50_mask': 'mask AP50',
    'ap75_mask': 'mask AP75',
}
METHODS = {'FasterRCNN': 'Faster R-CNN', 'MaskRCNN': 'Mask R-CNN'}

Metrics = dict[str, float]


def find(paper: str, table: str, **labels: Any) -> Metrics:
    """Return the metrics of a table's line with these labels; empty if it has none."""
    lines = [
        line
        for line in PAPERS[paper][table]
        if all(line[column] == label for column, label in labels.items())
    ]
    assert len(lines) <= 1, (table, labels)
    return {COLUMNS[key]: value for line in lines for key, value in line.items() if key in COLUMNS}


def in_the_paper(row: Row) -> tuple[str, Metrics]:
    """Return the table of a row, and its metrics; an empty name and none for a row in no table."""
    backbone, box = (row.norms[part].type if row.norms[part] else '-' for part in ('backbone', 'box'))
    if row.recipe.unit == 'iterations':
        if row.detector == 'RetinaNet':
            table = 'table_7'
        elif row.weights.checkpoint:
            table = 'table_6'
        else:
            table = 'table_3' if row.head == '0c2f' else 'table_5'
        found = find('mabn', table, norm=backbone)
        return f'MABN paper, Table {table[-1]}', found
    if row.recipe != CBN_PAPER:
        return '', {}
    if row.detector == 'FasterRCNN' and row.depth == 50:
        name = 'Table 4'
        found = find('cbn', 'table_4', backbone='fixed BN' if row.norm_eval else backbone, box_head=box)
    else:
        name = 'Table 5'
        table = {'FasterRCNN': 'table_5_faster_rcnn', 'MaskRCNN': 'table_5_mask_rcnn'}[row.detector]
        found = find('cbn', table, backbone=f'R{row.depth}+FPN', norm=box)
    return (f'CBN paper, {name}', found) if found else ('', {})


def in_the_repository(row: Row) -> Metrics:
    """Return what the authors' repository prints for a row, where that is something else than the paper."""
    if row.recipe.unit == 'iterations' and row.head == '4c1f':
        strategy = 'fine-tune' if row.weights.checkpoint else 'from scratch'
        found = find('mabn_repository', 'coco', strategy=strategy, norm=row.norms['backbone'].type)
    elif row.recipe == CBN_PAPER and row.depth == 50 and row.norm_eval:
        norm = row.norms['box'].type if row.norms['box'] else '-'
        found = find('cbn_repository', 'main_results', method=METHODS[row.detector], norm=norm)
    else:
        found = {}
    paper = in_the_paper(row)[1]
    return {} if all(paper.get(name) == value for name, value in found.items()) else found
