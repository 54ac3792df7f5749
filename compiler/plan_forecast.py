"""The forecast of a plan, from all that its server part knows of its values."""

from __future__ import annotations

from hec.compiler.forecast import Forecast, forecast
from hec.compiler.plan_parts import ServerPart


def forecast_of(server: ServerPart) -> Forecast:
    """Return seconds and errors; where magnitudes are unknown, values are taken as large as 1."""
    return forecast(
        server.program,
        server.magnitudes or (1.0,) * len(server.program.instructions),
        measured=server.deviations,
        coherence=server.coherence,
        peaks=server.peaks,
    )
