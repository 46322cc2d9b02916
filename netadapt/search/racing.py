"""Which proposals need not be taken further: those that others are ahead of, or all that are left, if they are tied."""

from __future__ import annotations

from collections.abc import Mapping

from netadapt.search.image_results import difference
from netadapt.search.outcome import Look
from netadapt.train.task import ImageResults

#: Part of the hold-out images that the first look of a growing slice takes, and the fewest that say anything.
_SLICE = 0.1
_FEWEST_IMAGES = 500
#: Part of the short-term fine-tune after which a race is looked at once more before its end.
_EARLY = 0.25
#: A lead in score that is not worth finding out.
_IMMATERIAL = 0.005


def looks(steps: int, images: int, *, racing: bool, growing: bool) -> list[Look]:
    """How far proposals are taken in each round; the last look is the whole fine-tune and all images.

    The first look of a race trains nothing: with batch normalisation's statistics taken anew, a narrowed network shows
    most of what the fine-tune will make of it, for a tenth of the time.
    """
    shares = (0.0, _EARLY, 1.0) if racing else (1.0,)
    rounds = [Look(done) for done in dict.fromkeys(round(share * steps) for share in shares)]
    part = max(round(_SLICE * images), min(_FEWEST_IMAGES, images))
    return [Look(rounds[0].steps, part), *rounds] if growing and part < images else rounds


def behind(results: Mapping[str, ImageResults], places: int = 1) -> set[str]:
    """Those that at least `places` others are ahead of with confidence; `results` are of the same images."""
    return {name for name in results if sum(_is_ahead(results[other], results[name]) for other in results) >= places}


def tied(results: Mapping[str, ImageResults]) -> bool:
    """Whether none can have a lead in score over the one of lowest loss that is worth finding out."""
    best = min(results.values(), key=lambda found: found.loss)
    return all(difference(best.scores, other.scores).exceeds(-_IMMATERIAL) for other in results.values())


def _is_ahead(ours: ImageResults, theirs: ImageResults) -> bool:
    """Whether ours are better: a lower loss, which tells more than right or wrong, and no fewer right."""
    lower_loss = difference(theirs.losses, ours.losses).is_positive
    return lower_loss and difference(ours.scores, theirs.scores).mean >= 0
