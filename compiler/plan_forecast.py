"""The forecast of a plan, from all that its server part knows of its values."""

from __future__ import annotations

from hec.compiler.cost_table import REFERENCE, CostTable
from hec.compiler.forecast import Forecast, forecast
from hec.compiler.plan_parts import ServerPart
from hec.compiler.predicted_errors import Known


def forecast_of(server: ServerPart, table: CostTable = REFERENCE) -> Forecast:
    """Return seconds and errors; where magnitudes are unknown, values are taken as large as 1."""
    magnitudes = server.magnitudes or (1.0,) * len(server.program.instructions)
    known = Known(magnitudes, server.deviations, server.coherence, server.peaks, server.reaches)
    return forecast(server.program, known, table=table)
