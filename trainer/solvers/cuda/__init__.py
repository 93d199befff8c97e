"""Preconditioned conjugate gradients on a GPU: the method of `trainer.solvers.cg`, in kernels for CUDA.

Matrix, factors and all state stay on the device for the whole training, unless the matrix does not fit: then
its entries are streamed. ``kernels.cu`` has the kernels; products with dense matrices and their eigenvectors
are left to cuBLAS and cuSOLVER.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, translated
from trainer.matrix import InteractionMatrix, Shard
from trainer.solvers.agreement import Agreed, itself
from trainer.solvers.cuda.device import Device
from trainer.solvers.cuda.layout import LANES, MAX_FACTORS, PIECE, Bins, Tuning, padded_width
from trainer.solvers.cuda.memory import Plan, Size, plan
from trainer.solvers.cuda.side import Side
from trainer.solvers.part import Part
from trainer.weighting import HalfProblem, Problem

SOURCE = Path(__file__).with_name("kernels.cu")
KERNELS = ("step_by_warps", "step_by_teams", "step_by_blocks", "gather_pieces", "merge_pieces")
"""The kernels in it."""


class CudaConjugateGradients:
    """Improves every row by a few steps from its last factors, on a GPU.

    Attributes:
        device: the GPU.
    """

    def __init__(
        self, steps: int, device: Device, tuning: Tuning | None = None, *, agreed: Agreed = itself
    ) -> None:
        """Set how to solve.

        Args:
            steps: steps of each row and iteration.
            device: the GPU.
            tuning: how the kernels are launched.
            agreed: see there.
        """
        self._steps = steps
        self._agreed = agreed
        self.device = device
        self._tuning = tuning or Tuning()

    def sweep(
        self,
        shards: Sequence[Shard],
        problem: HalfProblem,
        minor: NDArray[np.float32],
        major: NDArray[np.float32],
    ) -> float:
        """Step every row towards its solution and rotate ``minor`` in place; see `trainer.solvers.Solver`.

        Raises:
            InputError: the problem does not fit the device.
            WalsError: the device failed.
        """
        with translated(*self.device.failures()):
            engine = self._engine((len(major), len(minor)), minor.shape[1], shards)
            factors = engine.uploaded(minor), engine.uploaded(major)
            loss = float(engine.half(engine.side(shards, problem), *factors))
            for array, result in zip((minor, major), factors, strict=True):
                array[:] = engine.downloaded(result)
        return loss

    def begin(
        self,
        matrix: InteractionMatrix,
        problem: Problem,
        user_factors: NDArray[np.float32],
        item_factors: NDArray[np.float32],
    ) -> "CudaTraining":
        """Copy matrix and factors to the device; see `trainer.solvers.begin`.

        Raises:
            InputError: the problem does not fit the device.
            WalsError: the device failed.
        """
        with translated(*self.device.failures()):
            engine = self._engine(
                (matrix.rows, matrix.columns), user_factors.shape[1], matrix.by_row, matrix.by_column
            )
            sides = engine.side(matrix.by_row, problem.users), engine.side(matrix.by_column, problem.items)
            return CudaTraining(engine, *sides, user_factors, item_factors)

    def begin_part(
        self, parts: tuple[Part, Part], factors: tuple[NDArray[np.float32], NDArray[np.float32]]
    ) -> "CudaPartialTraining":
        """Copy some rows of both sides, and all factors, to the device; see `trainer.solvers.begin_part`.

        Raises:
            InputError: the problem does not fit the device.
            WalsError: the device failed.
        """
        with translated(*self.device.failures()):
            users, items = factors
            shards = (part.shards for part in parts)
            engine = self._engine((len(users), len(items)), users.shape[1], *shards)
            return CudaPartialTraining(engine, parts, factors)

    def _engine(self, shape: tuple[int, int], d: int, *sides: Sequence[Shard]) -> "Engine":
        if d > MAX_FACTORS:
            problem = f"is above {MAX_FACTORS}, the most that solver cuda supports"
            raise InputError("latent_factors", d, problem, "lower it, or set solver to cg")
        lengths = [int(np.diff(shard.indptr).max(initial=0)) for side in sides for shard in side]
        entries = max(sum(shard.entries for shard in side) for side in sides)
        planned = plan(
            Size(*shape, entries, max(lengths), d), self._tuning, self.device.memory(), self.device.name
        )
        return Engine(self.device, self._steps, d, self._tuning, planned, self._agreed)


class CudaTraining:
    """A training whose state is on a GPU."""

    def __init__(
        self,
        engine: "Engine",
        users: Side,
        items: Side,
        user_factors: NDArray[np.float32],
        item_factors: NDArray[np.float32],
    ) -> None:
        """Take over from the given factors.

        Args:
            engine: runs the kernels.
            users: the users' side.
            items: the items' side.
            user_factors: (users, d), which are copied.
            item_factors: (items, d), likewise.
        """
        self._engine, self._users, self._items = engine, users, items
        self._user_factors = engine.uploaded(user_factors)
        self._item_factors = engine.uploaded(item_factors)

    def iterate(self) -> float:
        """Pass over the users and the items; see `trainer.solvers.Training`."""
        engine = self._engine
        with translated(*engine.device.failures()):
            engine.half(self._users, self._item_factors, self._user_factors)
            loss = engine.half(self._items, self._user_factors, self._item_factors)
            return float(loss + engine.penalty(self._users.regularization, self._user_factors))

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Copy the factors from the device; see `trainer.solvers.Training`."""
        with translated(*self._engine.device.failures()):
            return self._engine.downloaded(self._user_factors), self._engine.downloaded(self._item_factors)


class CudaPartialTraining:
    """Some rows of a training, on a GPU; see `trainer.solvers.PartialTraining`."""

    def __init__(
        self, engine: "Engine", parts: tuple[Part, Part], factors: tuple[NDArray[np.float32], ...]
    ) -> None:
        """Take over from the given factors.

        Args:
            engine: runs the kernels.
            parts: rows of the users and of the items.
            factors: (users, d) and (items, d); new rows are copied to and from them.
        """
        self._engine, self._parts, self._host = engine, parts, factors
        self._sides = [engine.side(part.shards, part.problem) for part in parts]
        self._factors = [engine.uploaded(array) for array in factors]

    def solve(self, side: int) -> float:
        """Step the rows of a side, and copy them from the device; see there."""
        engine, part = self._engine, self._parts[side]
        with translated(*engine.device.failures()):
            loss = float(engine.half(self._sides[side], self._factors[1 - side], self._own(side)))
            self._host[side][part.first : part.stop] = engine.downloaded(self._own(side))
            return loss

    def complete(self, side: int) -> None:
        """Copy the rows of others to the device; see there."""
        part = self._parts[side]
        with translated(*self._engine.device.failures()):
            for others in (slice(0, part.first), slice(part.stop, None)):
                self._factors[side][others] = self._engine.uploaded(self._host[side][others])

    def penalty(self, side: int) -> float:
        """Return the regularisation of the rows of a side; see there."""
        with translated(*self._engine.device.failures()):
            return float(self._engine.penalty(self._sides[side].regularization, self._own(side)))

    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Copy the factors from the device; see there."""
        with translated(*self._engine.device.failures()):
            users, items = (self._engine.downloaded(array) for array in self._factors)
            return users, items

    def _own(self, side: int) -> Any:
        part = self._parts[side]
        return self._factors[side][part.first : part.stop]


class Engine:
    """Half iterations on a device.

    Attributes:
        device: the GPU.
    """

    def __init__(
        self, device: Device, steps: int, d: int, tuning: Tuning, planned: Plan, agreed: Agreed = itself
    ) -> None:
        """Compile the kernels.

        Args:
            device: the GPU.
            steps: steps of each row.
            d: numbers of a factor.
            tuning: how the kernels are launched.
            planned: sizes that fit the device.
            agreed: see there.
        """
        self._agreed = agreed
        self.device = device
        self._xp = device.xp
        self._steps = np.int32(steps)
        self._d, self._width = d, padded_width(d)
        self._tuning, self._plan = tuning, planned
        self._kernels = device.compile(SOURCE.read_text("utf-8"), KERNELS, tuning.macros(self._width))

    def side(self, shards: Sequence[Shard], problem: HalfProblem) -> Side:
        """Copy a side to the device."""
        return Side.of(self.device, shards, problem, self._tuning, self._plan.block)

    def uploaded(self, factors: NDArray[np.float32]) -> Any:
        """Return (rows, width) float32 on the device, padded with zeros."""
        padded = self._xp.zeros((len(factors), self._width), self._xp.float32)
        for part in self._parts(factors):
            padded[part, : self._d] = self._xp.asarray(factors[part])
        return padded

    def downloaded(self, factors: Any) -> NDArray[np.float32]:
        """Return (rows, d) float32 without the padding, as a new array of this machine."""
        result = np.empty((len(factors), self._d), np.float32)
        for part in self._parts(factors):
            kept = factors[part, : self._d]
            result[part] = kept.get() if hasattr(kept, "get") else kept
        return result

    def half(self, side: Side, minor: Any, major: Any) -> Any:
        """Step every row of a side and rotate ``minor`` in place.

        Args:
            side: the rows.
            minor: (minors, width) float32, the fixed factors.
            major: (rows, width) float32, to improve.

        Returns:
            () float64 on the device, the objective without the regularisation of ``minor``.
        """
        xp = self._xp
        eigenvalues = self.to_eigenbasis(minor, major)
        diagonal = eigenvalues * np.float32(side.problem.unobs_weight)
        mean = eigenvalues / np.float32(len(minor))
        stored = minor.astype(xp.float16) if self._tuning.half else minor
        losses = xp.empty(side.rows, xp.float32)
        for block in side.blocks():
            rows = (*side.arguments(block), diagonal, mean, stored, major, losses)
            self._step(block.bins, rows)
        return losses.sum(dtype=xp.float64)

    def penalty(self, regularization: Any, factors: Any) -> Any:
        """Return () float64 on the device, the sum of lambda |x|^2."""
        total = self._xp.zeros((), self._xp.float64)
        for part in self._parts(factors):
            squares = self._xp.square(factors[part]).sum(axis=1)
            total += (regularization[part] * squares).sum(dtype=self._xp.float64)
        return total

    def to_eigenbasis(self, *sides: Any) -> Any:
        """Rotate the sides so that the Gramian of the first is diagonal; return its (width,) diagonal."""
        xp, d = self._xp, self._d
        first = sides[0]
        found, vectors = xp.linalg.eigh((first.T @ first)[:d, :d])
        if self._agreed is not itself:
            basis = xp.concatenate([found[None], vectors])
            basis = xp.asarray(self._agreed(basis.get() if hasattr(basis, "get") else basis))
            found, vectors = basis[0], basis[1:]
        # The padding stays zero, which the eigenvectors of a padded Gramian would not see to.
        rotation = xp.zeros((self._width, self._width), xp.float32)
        rotation[:d, :d] = vectors
        for factors in sides:
            for part in self._parts(factors):
                factors[part] = factors[part] @ rotation
        eigenvalues = xp.zeros(self._width, xp.float32)
        eigenvalues[:d] = xp.maximum(found, 0)
        return eigenvalues

    def _parts(self, factors: Any) -> Iterator[slice]:
        """Yield runs of rows of which a copy fits the workspace."""
        step = self._plan.copied_rows
        for start in range(0, len(factors), step):
            yield slice(start, min(start + step, len(factors)))

    def _step(self, bins: Bins, problem: tuple[Any, ...]) -> None:
        """Start the kernels for a block's rows, those with the longest rows first."""
        tuning, width = self._tuning, self._width
        if len(bins.split):
            self._step_split(bins, problem)
        cached = tuning.cached_rows(width, self.device.shared_bytes)
        for name, order, warps, kept in (
            ("step_by_blocks", bins.wide, tuning.wide, 0),
            ("step_by_teams", bins.teams, tuning.team, cached),
        ):
            if len(order):
                shared = tuning.merging_bytes(width, warps) + kept * tuning.row_bytes(width)
                arguments = (order, np.int32(len(order)), self._steps, np.int32(kept), *problem)
                self._kernels.launch(name, len(order), warps * LANES, arguments, shared=shared)
        if len(bins.warps):
            grid = -(-len(bins.warps) // tuning.team)
            arguments = (bins.warps, np.int32(len(bins.warps)), self._steps, np.int32(0), *problem)
            self._kernels.launch("step_by_warps", grid, tuning.team * LANES, arguments)

    def _step_split(self, bins: Bins, problem: tuple[Any, ...]) -> None:
        xp, width, wide = self._xp, self._width, self._tuning.wide
        rows, pieces = len(bins.split), len(bins.owners)
        vectors, scalars = xp.empty((2, rows, width), xp.float32), xp.empty((rows, 5), xp.float32)
        totals, sums = xp.empty((pieces, width), xp.float32), xp.empty((pieces, 2), xp.float32)
        shared = self._tuning.merging_bytes(width, wide)
        for number in range(int(self._steps) + 1):
            numbers = (np.int32(rows), np.int32(number), self._steps)
            arrays = (bins.first_piece, bins.owners, np.int32(PIECE), vectors, scalars, totals, sums)
            arguments = (bins.split, *numbers, *arrays, *problem)
            self._kernels.launch("gather_pieces", pieces, wide * LANES, arguments, shared=shared)
            self._kernels.launch("merge_pieces", rows, wide * LANES, arguments, shared=shared)
