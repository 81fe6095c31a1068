"""Cards as short arrays of numbers, for a browser: every text is kept once and named by its place."""

import json
from dataclasses import dataclass, field

from trabecula.report.gallery.cards import Card, Line, Tile


@dataclass
class Vocabulary:
    """Texts that the cards are made of, by their place.

    Attributes
    ----------
    words : list of str
        The texts, in the order in which they came.
    """

    words: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, text: str) -> int:
        """Place of a text, a new one if it is new."""
        if text not in self._places:
            self._places[text] = len(self.words)
            self.words.append(text)
        return self._places[text]

    def packed(self, card: Card) -> str:
        """A card as a JSON array: cohort, patient, study, picture, device, decision, facts, flags, tiles.

        Patient and study are texts, since each is there once; the others are places of texts. See gallery.js.
        """
        row = [
            self.place(card.cohort),
            card.patient_id,
            card.study_id,
            int(card.picture),
            self.place(card.device),
            self.place(card.decision),
            [self._line(line) for line in card.facts],
            [self._line(line) for line in card.flags],
            [self._tile(tile) for tile in card.tiles],
        ]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))

    def _line(self, line: Line) -> list[int]:
        return [self.place(line.pattern), *map(self.place, line.entries)]

    def _tile(self, tile: Tile) -> list[int | None]:
        """Level and height alone for what most vertebrae are: with a picture, and without a verdict."""
        level = self.place(tile.level)
        if tile.picture and not tile.verdict:
            return [level, tile.z_mm]
        return [level, tile.z_mm, self.place(tile.found), int(tile.picture), self.place(tile.verdict)]
