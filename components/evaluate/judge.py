"""The judge: scores the new model, the champion and the baselines, and collects what is known about them."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from components.artifacts.evaluation import (
    PER_USER_FILE,
    ChampionFacts,
    Drift,
    Estimate,
    Evaluation,
    Holdout,
    Segment,
)
from components.artifacts.evaluation import Recommender as Name
from components.artifacts.holdout import HISTORY, TARGETS, open_holdout
from components.artifacts.profile import Profile
from components.evaluate.champion import Champion
from components.evaluate.drift import of_ids, of_popularity, of_profiles
from components.evaluate.gate import Part, Rival, Scores, decide
from components.evaluate.options import EvaluateOptions
from components.evaluate.prediction import prediction_errors
from components.evaluate.recommenders import ByFactors, BySimilarity
from components.evaluate.scoring import Jury, Lists, Verdict
from components.evaluate.source import source_facts
from components.evaluate.targets import Activity, Targets, is_head, keys_of
from components.software import own_version
from trainer.baselines import ItemCosine, Random, Recommender
from trainer.catalogue import CatalogueTables, read_catalogue
from trainer.config import AUTOMATIC
from trainer.errors import InputError
from trainer.files import replacing, sha256
from trainer.matrix import InteractionMatrix, Shard
from trainer.metrics import Exposure, metric_name
from trainer.model import Model, seen_of
from trainer.popularity import Popularity


@dataclass(frozen=True)
class Case:
    """What is judged, and on what.

    Attributes:
        model: the new model; of users held out whole with factors and seen items from their histories.
        matrix: training entries.
        targets: held-out entries.
        history: interactions of users held out whole; None with other splits.
        checksum: SHA-256 of the held-out entries.
        catalogue: what is known about the items.
        profile: profile of the interactions that all of it was made from.
    """

    model: Model
    matrix: InteractionMatrix
    targets: Targets
    history: InteractionMatrix | None
    checksum: str
    catalogue: CatalogueTables
    profile: Profile

    @classmethod
    def open(cls, model: Path, training: Path, holdout: Path, catalogue: Path, profile: Path) -> Self:
        """Open the artifacts; see `components.evaluate.step.evaluate`."""
        fitted = Model.load(model)
        matrix = InteractionMatrix.open(training)
        matrix.check_same_run("model", model, fitted.training)
        matrices = open_holdout(holdout, matrix)
        known_items = read_catalogue(catalogue)
        shape = (len(fitted.users), len(fitted.items))
        for name, one in {"training": matrix, **matrices}.items():
            if (one.rows, one.columns) != shape:
                problem = f"is not of the model's {shape[0]:,} users and {shape[1]:,} items"
                raise InputError(name, (one.rows, one.columns), problem, "give the artifacts of one run")
        targets = Targets.of(matrices[TARGETS])
        if not targets.entries:
            problem = "has no entries to score on"
            raise InputError("holdout", 0, problem, "hold out more, such as holdout_fraction 0.1")
        history = matrices.get(HISTORY)
        if history is not None:
            fitted = _folded_in(fitted, history)
        checksum = _checksum(targets, history)
        return cls(fitted, matrix, targets, history, checksum, known_items, Profile.read(profile))

    def item_counts(self, *, with_holdout: bool) -> NDArray[np.int64]:
        """Return the training interactions of each item, (items,), with those held out if asked for."""
        counts = self.matrix.column_counts()
        if not with_holdout:
            return counts
        held_out = np.bincount(self.targets.items, minlength=len(counts))
        return counts + held_out + (self.history.column_counts() if self.history else 0)


def _checksum(targets: Targets, history: InteractionMatrix | None) -> str:
    digest = hashlib.sha256()
    arrays = [targets.users, targets.indptr, targets.items, targets.values]
    for shard in history.by_row if history else ():
        arrays += [shard.indptr, shard.indices, shard.values]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _folded_in(model: Model, history: InteractionMatrix) -> Model:
    """Return the model with factors and seen items from its users' histories."""
    factors = np.zeros_like(model.user_factors)
    for shard in history.by_row:
        factors[shard.first : shard.first + shard.rows] = model.fold_in(shard)
    return dataclasses.replace(model, user_factors=factors, seen=seen_of(history.by_row))


@dataclass(frozen=True)
class Judge:
    """Judges the recommenders of a case.

    Attributes:
        case: what is judged.
        champion: the model that serves; None if there is none.
        options: options of the decision.
        tuned: whether the model's parameters are the best of a tuning.
    """

    case: Case
    champion: Champion | None
    options: EvaluateOptions
    tuned: bool = False

    def judge(self, per_user: Path) -> Evaluation:
        """Return all results, and write the users' metrics to a file."""
        with replacing(per_user) as temporary:
            verdict = self._jury.judge(self._recommenders(), temporary)
            segments = [
                segment
                for division in self._divisions
                if (segment := verdict.segment(**division._asdict(), seed=self._seed))
            ]
            decision = decide(self.options, self._scores(verdict, segments), self._seed)
            metrics = self._metrics(verdict)
            digest = sha256(temporary)
        return Evaluation(
            decision=decision,
            champion=self._champion_facts(),
            holdout=Holdout(
                users=len(self.targets.users), entries=self.targets.entries, checksum=self.case.checksum
            ),
            metrics=metrics,
            segments=tuple(segments),
            parameters=self.case.model.config.model_dump(),
            choice=self.case.model.choice,
            history=self.case.model.history,
            drift=tuple(self._drift()),
            facts=self._facts(),
            sha256={PER_USER_FILE: digest},
        )

    @cached_property
    def targets(self) -> Targets:
        """The entries that are judged: of users drawn from those who have any, see `_eligible`."""
        return self._eligible.drawn(self.options.eval_users)

    @property
    def _eligible(self) -> Targets:
        """All held-out entries that the champion was not trained on.

        If none are left, they are all judged, but without the champion: the figures of the run are worth
        having all the same.
        """
        return self._unseen if self._unseen.entries else self.case.targets

    @cached_property
    def _unseen(self) -> Targets:
        targets = self.case.targets
        if not self.champion:
            return targets
        return targets.without(self.champion.seen, self._lists.items, self._lists.users_at_once)

    @property
    def _rival(self) -> Champion | None:
        return self.champion if self._unseen.entries else None

    @property
    def _seed(self) -> int:
        return self.case.model.config.seed

    @cached_property
    def _lists(self) -> Lists:
        return Lists.of(self.options.eval_k, len(self.case.model.items))

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        return self.case.matrix.column_counts()

    @cached_property
    def _activity(self) -> NDArray[np.int64]:
        """Training interactions of each judged user."""
        return np.diff(self.case.model.seen.indptr)[self.targets.users]

    @cached_property
    def _models(self) -> dict[Name, ByFactors]:
        model, popularity = self.case.model, Popularity(self._counts)
        users, items = np.arange(len(model.users)), np.arange(len(model.items))
        rows = np.where(np.diff(model.seen.indptr) > 0, users, -1)
        own = ByFactors(rows, items, model.user_factors, model.item_factors, popularity, len(items))
        models: dict[Name, ByFactors] = {"model": own}
        if self._rival:
            models["champion"] = self._rival.recommender(popularity, self.case.history)
        return models

    def _recommenders(self) -> dict[Name, Recommender]:
        return {
            **self._models,
            "popularity": Popularity(self._counts),
            "item_cosine": BySimilarity(ItemCosine(self.case.matrix), self.case.model.seen),
            "random": Random(self._lists.items, self._seed),
        }

    @cached_property
    def _known_users(self) -> NDArray[np.bool_] | None:
        """Which judged users the champion knows; None without a champion."""
        if not self._rival:
            return None
        return self._models["champion"].rows[self.targets.users] >= 0

    @cached_property
    def _jury(self) -> Jury:
        names = Activity.of(self._activity).names(self._activity)
        columns: dict[str, NDArray[np.generic]] = {"activity": names}
        head = is_head(self._counts)
        parts = {"head": head, "tail": ~head}
        if self._known_users is not None and self._rival:
            columns["known_user"] = self._known_users
            parts["unknown items"] = self._rival.unknown_items
        return Jury(self._lists, self.targets, self._masked, columns, parts, self._exposure)

    def _masked(self, users: NDArray[np.int64]) -> Shard:
        """Return the items of each user in the training of either model."""
        own = self.case.model.seen.rows(users)
        if not self._rival:
            return own
        theirs = self._rival.seen(users)
        width = self._lists.items
        keys = np.concatenate([keys_of(rows.indptr, rows.indices, width) for rows in (own, theirs)])
        # Two ascending runs, which a stable sort merges.
        keys.sort(kind="stable")
        keys = keys[np.diff(keys, prepend=-1) > 0]
        indptr = np.searchsorted(keys, np.arange(len(users) + 1) * width)
        return Shard(0, indptr, (keys % width).astype(np.int32), np.ones(len(keys), np.float32))

    def _exposure(self) -> Exposure:
        return Exposure(self._counts, int(np.count_nonzero(self.case.matrix.row_counts())))

    @property
    def _divisions(self) -> Iterator["_Division"]:
        activity = self._jury.columns["activity"]
        for name in ("cold", "middle", "heavy"):
            yield _Division("user activity", name, "", activity == name)
        for name in ("head", "tail"):
            yield _Division("item popularity", name, name, None)
        if self._known_users is not None:
            known = "known to the champion"
            yield _Division(known, "known users", "", self._known_users)
            yield _Division(known, "unknown users", "", ~self._known_users)
            yield _Division(known, "unknown items", "unknown items", None)

    def _scores(self, verdict: Verdict, segments: list[Segment]) -> Scores:
        """Return what the gate decides by."""
        metric = metric_name(self.options.gate_metric, self.options.eval_k)

        def values(one: Name, part: str = "", users: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
            return verdict.values(one, [metric], part, users)[metric]

        rival = None
        if self.champion and not self._rival:
            rival = Rival(self.champion.version, None)
        elif self._rival:
            found = {(segment.by, segment.name) for segment in segments}
            parts = [
                Part(by, name, values("model", part, users), values("champion", part, users))
                for by, name, part, users in self._divisions
                if (by, name) in found
            ]
            rival = Rival(self._rival.version, values("champion"), parts)
        return Scores(metric, values("model"), values("popularity"), rival, self._fixed, self.tuned)

    @property
    def _fixed(self) -> list[str]:
        """Parameters of the training that could have been chosen for the data, but were given."""
        choice = self.case.model.choice
        return [name for name in AUTOMATIC if not choice or name not in choice.parameters]

    def _metrics(self, verdict: Verdict) -> dict[Name, dict[str, Estimate]]:
        configs = {"model": self.case.model.config}
        if self._rival:
            configs["champion"] = self._rival.model.config
        errors = prediction_errors(
            self.targets,
            self.case.matrix,
            {name: (model, configs[name]) for name, model in self._models.items()},
            self._lists.users_at_once,
        )
        metrics = verdict.estimates(self._seed)
        for name, values in errors.items():
            metrics[name] |= {metric: Estimate(value=value) for metric, value in values.items()}
        return metrics

    def _champion_facts(self) -> ChampionFacts | None:
        if not self.champion:
            return None
        known = self._known_users
        return ChampionFacts(
            version=self.champion.version,
            promoted=self.champion.promoted,
            unknown_users=0 if known is None else int(np.count_nonzero(~known)),
            unknown_items=int(np.count_nonzero(self.champion.unknown_items)),
            excluded_entries=self.case.targets.entries - self._unseen.entries,
        )

    def _drift(self) -> Iterator[Drift]:
        """Yield how far the data differ from those of the champion."""
        if not self.champion:
            return
        served, profile = self.champion, self.case.profile
        if served.profile:
            yield from of_profiles(profile, served.profile, datetime.now(UTC), served.created)
        for kind, now, before, known in (
            ("users", self.case.model.users, served.model.users, served.rows),
            ("items", self.case.model.items, served.model.items, served.numbers),
        ):
            yield from of_ids(kind, len(now), len(before), int(np.count_nonzero(known >= 0)))
        # Both with or both without what was held out.
        ours, theirs = served.beside(self.case.item_counts(with_holdout=served.refitted))
        if ours.any() and theirs.any():
            yield of_popularity(ours, theirs)

    @property
    def _drawn(self) -> str:
        """How many users could be judged, and how many of them were drawn if not all were."""
        users, drawn = len(self._eligible.users), len(self.targets.users)
        return f"{users:,}" if users == drawn else f"{users:,}, of whom {drawn:,} were drawn at random"

    def _facts(self) -> dict[str, str]:
        matrix, cut = self.case.matrix, Activity.of(self._activity)
        facts = {
            **source_facts(self.case.profile),
            "users": f"{matrix.rows:,}",
            "items": f"{matrix.columns:,}",
            "training interactions": f"{matrix.entries:,}",
            "density": f"{matrix.entries / (matrix.rows * matrix.columns):.4%}",
            "code version": own_version(),
            "held-out interactions": f"{self.case.targets.entries:,}",
            "users with interactions to predict": self._drawn,
            "users without training interactions": (
                f"{np.count_nonzero(np.diff(self.case.model.seen.indptr) == 0):,}"
            ),
            "cold users": f"up to {cut.cold:,} training interactions",
            "heavy users": f"more than {cut.middle:,} training interactions",
            "head items": f"{np.count_nonzero(is_head(self._counts)):,}, with half of all interactions",
        }
        if known := self.case.catalogue.items.num_rows:
            facts["items in the catalogue"] = f"{known:,}"
        if self.champion:
            facts["held-out interactions that the champion was trained on"] = (
                f"{self.case.targets.entries - self._unseen.entries:,}"
            )
        return facts


class _Division(NamedTuple):
    """A segment: users, or a part of the items."""

    by: str
    name: str
    part: str
    users: NDArray[np.bool_] | None
