"""Data cards: where a set comes from, what it holds, on which terms, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """A file as its publisher hands it out.

    Attributes:
        file: its name.
        gives: what it unpacks to, relative to the folder it is put into; its own name if it is not packed.
        url: where it is; empty if it can only be had through the set's page.
        md5: checksum as the publisher states it; None where none is stated.
        optional: the set can be used without it.
    """

    file: str
    gives: str
    url: str = ""
    md5: str | None = None
    optional: bool = False

    @property
    def open(self) -> bool:
        """Whether it may be downloaded for the user: a public address and a checksum to hold it against."""
        return bool(self.url and self.md5)


@dataclass(frozen=True)
class Card:
    """What a reader should know before using a set.

    Attributes:
        name: how the set is called here, and its folder in $CVSA_DATA.
        title: its own name.
        url: its page.
        citation: the publication that introduced it.
        terms: terms of use, in one line.
        classes: how many; 1 means that no labels are used, 0 that any number will do.
        splits: images in "train" (before validation images are held out) and "test"; empty: any number.
        about_splits: how the published splits are used here.
        truth: what is annotated.
        files: what must be there, relative to the set's home.
        archives: how it is published.
        inner: folder that an archive brings along; a home may lie in it.
    """

    name: str
    title: str
    url: str
    citation: str
    terms: str
    classes: int
    splits: dict[str, int]
    about_splits: str
    truth: str
    files: tuple[str, ...]
    archives: tuple[Archive, ...] = field(default=())
    inner: str = ""

    @property
    def labelled(self) -> bool:
        """Whether its images have classes; without, it serves the first stage only."""
        return self.classes != 1

    def instruction(self, base: Path, files: list[str] | None = None) -> str:
        """Where to get the set's files and where to put them, in one line.

        Args:
            base: the set's folder.
            files: names of the archives that are wanted; None: all the set needs.
        """
        wanted = [a for a in self.archives if (not a.optional if files is None else a.file in files)]
        if not wanted:
            return f"See {self.url}."
        names = ", ".join(archive.file for archive in wanted)
        itself = all(archive.open for archive in wanted)
        pronoun = "them" if len(wanted) > 1 else "it"
        how = f", or add --download to have {pronoun} fetched" if itself else ""
        run = f"run `cvsa data prepare {self.name}`{how}"
        return f"Get {names} from {self.url}, put {pronoun} into {base} and {run}."

    def lines(self) -> list[str]:
        """The card as text."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.splits.items())
        classes = f"{self.classes:,} classes" if self.labelled else "no labels used"
        size = f"{counts}; {classes}" if self.splits else "any number of images and classes"
        lines = [
            f"{self.name}: {self.title}",
            f"  origin    {self.url}",
            f"  cite      {self.citation}",
            f"  terms     {self.terms}",
            f"  size      {size}",
            f"  splits    {self.about_splits}",
            f"  truth     {self.truth}",
        ]
        for archive in self.archives:
            checksum = f"md5 {archive.md5}" if archive.md5 else "no checksum published"
            optional = ", optional" if archive.optional else ""
            lines.append(f"  archive   {archive.file} ({checksum}{optional}) {archive.url}".rstrip())
        place = "any folder" if self.name == "folder" else f"$CVSA_DATA/{self.name}, or a folder you name"
        return [*lines, f"  place     {place}; needs {', '.join(self.files)}"]
