"""What a good teacher would say about a network, once for all layers that it concerns; free of torch."""

from __future__ import annotations

from striate.account.ledger import Ledger
from striate.account.remarks.parts import cost_remarks, part_remarks
from striate.account.remarks.windows import view_remarks, window_remarks
from striate.records import Finding


def teacher_remarks(ledger: Ledger) -> tuple[Finding, ...]:
    """What is worth knowing about the network of `ledger`; warnings first.

    A remark is a Finding with a code `account.*`, a `warning` where something is probably not meant, a `note` where it
    is good to know. What concerns several layers is said once, with their names.
    """
    found = [*window_remarks(ledger), *part_remarks(ledger), *view_remarks(ledger), *cost_remarks(ledger)]
    return tuple(sorted(found, key=lambda remark: remark.severity != "warning"))
