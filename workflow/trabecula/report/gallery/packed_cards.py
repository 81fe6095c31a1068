"""Pack the cards for a browser into short arrays of numbers: every text is kept once, and a number gives its place."""

import json
from dataclasses import dataclass, field

from trabecula.report.gallery.cards import Card, Line, Vertebra


@dataclass
class Vocabulary:
    """The texts of the cards, each once.

    Attributes
    ----------
    words : list of str
        The texts, in the order in which they were added.
    """

    words: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, text: str) -> int:
        """Give the place of a text, and add it where it is new.

        >>> texts = Vocabulary()
        >>> [texts.place(text) for text in ("L1", "L2", "L1")]
        [0, 1, 0]
        """
        if text not in self._places:
            self._places[text] = len(self.words)
            self.words.append(text)
        return self._places[text]

    def packed(self, card: Card) -> str:
        """Pack a card as a JSON array: cohort, patient, study, overlay, device, decision, facts, flags, vertebrae.

        Patient and study are texts, since each occurs once; the others are places of texts. See gallery.js.
        """
        row = [
            self.place(card.cohort),
            card.patient_id,
            card.study_id,
            int(card.has_overlay),
            self.place(card.device),
            self.place(card.decision),
            [self._line(line) for line in card.facts],
            [self._line(line) for line in card.flags],
            [self._vertebra(vertebra) for vertebra in card.vertebrae],
        ]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))

    def _line(self, line: Line) -> list[int]:
        return [self.place(line.pattern), *map(self.place, line.entries)]

    def _vertebra(self, vertebra: Vertebra) -> list[int | None]:
        """Pack level and height alone where a vertebra has a thumbnail and no verdict, as most have."""
        level = self.place(vertebra.level)
        if vertebra.has_thumbnail and not vertebra.verdict:
            return [level, vertebra.z_mm]
        segmented_as, verdict = self.place(vertebra.segmented_as), self.place(vertebra.verdict)
        return [level, vertebra.z_mm, segmented_as, int(vertebra.has_thumbnail), verdict]
