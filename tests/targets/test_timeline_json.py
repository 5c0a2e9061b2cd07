"""A timeline comes back from its text as it was; texts of something else do not."""

import json

import pytest
from step_runs import asked

from supertile.targets.deployment_timeline import deployment_timeline
from supertile.targets.timeline import Timeline
from supertile.targets.timeline_json import timeline_of, timeline_text


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    held = asked("deepseek_v4_deployed")
    return deployment_timeline(held.tiled, held.scheduled(), held.question)


def test_the_text_gives_the_timeline_back(timeline: Timeline) -> None:
    again = timeline_of(timeline_text(timeline))
    assert again == timeline
    assert timeline_text(again) == timeline_text(timeline)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"model": "m"}', "{"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        timeline_of(text)


def test_a_field_too_many_is_refused(timeline: Timeline) -> None:
    held = json.loads(timeline_text(timeline)) | {"more": 1}
    with pytest.raises(ValueError, match="expected the fields"):
        timeline_of(json.dumps(held))
