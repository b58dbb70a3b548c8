"""A diagnosis as one HTML page."""

from __future__ import annotations

import io
from base64 import b64encode

from matplotlib.figure import Figure

from striate.doctor.diagnosis import VERDICTS, Diagnosis, Picture, verdict_text
from striate.report.page import page_environment
from striate.visualize.canvas import print_figure
from striate.visualize.finding_picture import bars_figure, images_figure, lines_figure
from striate.wording import several


def doctor_page(diagnosis: Diagnosis, subject: str) -> str:
    """The page as HTML text without external files: each finding with its picture, and its consequences."""
    pictures = {code: _encoded(picture) for code, picture in diagnosis.pictures.items()}
    page = page_environment().get_template("doctor.html")
    return page.render(
        diagnosis=diagnosis,
        subject=subject,
        pictures=pictures,
        alternatives=diagnosis.pictures,
        several=several,
        verdicts=VERDICTS,
        closing=verdict_text(diagnosis),
    )


def picture_figure(picture: Picture) -> Figure:
    """The picture of a finding as a figure."""
    if picture.kind == "images":
        return images_figure(picture.title, picture.images, picture.labels)
    if picture.kind == "bars":
        values = next(iter(picture.series.values()), ())
        return bars_figure(picture.title, picture.labels, values)
    return lines_figure(picture.title, picture.series)


def _encoded(picture: Picture) -> str:
    figure, file = picture_figure(picture), io.BytesIO()
    print_figure(figure, file, "png", 110)
    return b64encode(file.getvalue()).decode("ascii")
