"""A crossing as a section of the report page."""

from html import escape

from ferkit.audit.crossing import Crossing, cells, sentence
from ferkit.report.parts import class_name, percent, scrolling_table, section, table_head, table_row


def section_of(found: Crossing) -> str:
    """Which classes match, both figures, and each class, as HTML of `report.parts.section`."""
    heads = table_head("Choice among", "Accuracy", "95% interval", "Balanced", "Macro-F1")
    both = scrolling_table(heads, [table_row(name, *cells(report)) for name, report in found.choices()])
    mapping = f"<details><summary>Which class is which</summary>{_mapping(found)}</details>"
    body = f'{both}<div style="margin-top: 18px">{_per_class(found)}</div>{mapping}'
    return section("Classes that data and model share", escape(sentence(found.matched)), body, wide=True)


def _mapping(found: Crossing) -> str:
    matched = found.matched
    rows = [
        table_row(escape(theirs), f"{matched.counts[theirs]:,}", class_name(ours))
        for theirs, ours in matched.mapped.items()
    ]
    rows += [table_row(escape(name), f"{n:,}", "left out") for name, n in matched.left_out.items()]
    rows += [table_row("-", "0", class_name(name)) for name in matched.absent]
    return scrolling_table(table_head("In the data", "Faces", "In the model"), rows)


def _per_class(found: Crossing) -> str:
    rows = []
    for name, one in found.everything.per_class.items():
        if not one.n:
            continue
        shares = [one.recall, one.precision]
        if found.restricted:
            among = found.restricted.per_class[name]
            shares += [among.recall, among.precision]
        rows.append(table_row(class_name(name), f"{one.n:,}", *map(percent, shares)))
    heads = ["Class", "Faces", "Recall", "Precision"]
    if found.restricted:
        heads += ["Recall among shared", "Precision among shared"]
    return scrolling_table(table_head(*heads), rows)
