"""The CPU kernels of a group, by its schedule: maps, maps in tiles, rows, columns."""

import numpy as np

from fusec.codegen.emit import GRAIN_NS, KernelSource
from fusec.codegen.emit_batches import BatchEmitter, divides_saved, waits
from fusec.codegen.emit_columns import ColumnEmitter
from fusec.codegen.emit_finish import FinishEmitter
from fusec.codegen.emit_map import MapEmitter
from fusec.codegen.emit_recur import RoundsEmitter
from fusec.codegen.emit_rows import RowEmitter
from fusec.codegen.emit_scans import ScanEmitter, side_by_side
from fusec.codegen.emit_scatter import emit_scatter
from fusec.codegen.emit_tables import ColumnFinishEmitter, NarrowEmitter, long_strips, narrow
from fusec.codegen.emit_tiles import TileEmitter, turnable
from fusec.codegen.loops import TURN, Body
from fusec.codegen.overlap import OverlapEmitter, rows_that_meet
from fusec.codegen.schedule import in_periods, schedule
from fusec.codegen.unroll import unroll_turns


def emit(body: Body, split: bool) -> list[KernelSource]:
    """One kernel; two when its reduction is split; those of a scatter.

    Raises Overlap where it would overwrite what it has not read yet.
    """
    if body.first is not None:
        return emit_scatter(body)
    if TURN in body.extents:
        return [RoundsEmitter(schedule(body)).emit()]
    unroll_turns(body)
    plan = schedule(body)
    meeting = rows_that_meet(plan)
    if meeting:
        alone = not plan.outer or any(any(way[: len(plan.outer)]) for way in meeting)
        return [OverlapEmitter(plan, alone).emit()]
    if not body.reduced:
        axis, loads = turnable(plan)
        if loads:
            return [TileEmitter(plan, axis, loads).emit()]
        return [MapEmitter(in_periods(plan)).emit()]
    if side_by_side(plan):
        return [ScanEmitter(plan).emit()]
    if plan.column:
        split = split or long_strips(plan)
        columns = (NarrowEmitter if narrow(plan) else ColumnEmitter)(plan, split)
        kernels = [columns.emit()]
        return [*kernels, ColumnFinishEmitter(plan, columns).emit()] if split else kernels
    if not split and (waits(plan) or divides_saved(plan)):
        return [BatchEmitter(plan, split).emit()]
    rows = RowEmitter(plan, split)
    kernels = [rows.emit()]
    if split:
        kernels.append(FinishEmitter(plan, rows.partials).emit())
    return kernels


def chunk_rows(kernel: KernelSource, grain_ns: float = GRAIN_NS) -> int:
    """Rows that are worth waking a thread for."""
    return int(np.clip(grain_ns / max(kernel.work, 1e-3), 1, max(kernel.rows, 1)))
