"""
Forgetting a person from the UI: a job whose configuration names a file with the person's keys, and never the keys.

Belongs here: Dagster's job, and showing what came of it. Doesn't: forgetting (`warehouse/forget.py`).

What a run is configured with, logs and raises stays in Dagster's database for good: so none of it may hold a key.
"""

import dagster as dg
from pydantic import Field

from ingestion_platform.errors import IngestionError
from ingestion_platform.orchestration import metadata as show
from ingestion_platform.orchestration.resource import WarehouseResource
from ingestion_platform.orchestration.steps import as_failure
from ingestion_platform.warehouse import Warehouse
from ingestion_platform.warehouse.forget import (
    discreet,
    forget,
    keys_of_file,
    person_of,
    plan,
    who_returned,
)
from ingestion_platform.warehouse.personal import Person


class ForgetConfig(dg.Config):
    """Who is to be forgotten. Without `do`, only what would go is told."""

    file: str = Field(
        default="",
        description="Path of a file, on the machine that runs this and readable by its user alone, with a KIND=VALUE a line.",
    )
    again: bool = Field(default=False, description="Whoever was forgotten and has come back.")
    do: bool = Field(default=False, description="Do it: landed objects are rewritten for good.")
    everywhere: bool = Field(
        default=False, description="Rows that hold a key in a column of another meaning are the person's, too."
    )
    remove_objects: bool = Field(default=False, description="Objects that can't be rewritten are removed whole.")
    by: str = Field(default="", description="Who asks for it.")
    why: str = Field(default="", description="As the number of the request; nothing of the person.")


@dg.op(name="forget_person", required_resource_keys={"warehouse"})
def forget_person(context: dg.OpExecutionContext, config: ForgetConfig) -> dg.Output[None]:
    """Tell what would go, or do it."""
    resource: WarehouseResource = context.resources.warehouse
    person: Person | None = None
    try:
        with resource.opened() as warehouse:
            person = _person(warehouse, config)
            return _done(context, config, warehouse, person)
    except IngestionError as error:
        told = error if person is None else type(error)(discreet(person, error.what), error.hint)
        # Not from the error itself, which may say more.
        raise as_failure(told, "forgetting a person") from None


def _person(warehouse: Warehouse, config: ForgetConfig) -> Person:
    pairs = keys_of_file(config.file) if config.file else []
    if config.again:
        warehouse.forgotten.take_in()
        pairs += who_returned(warehouse)
    return person_of(warehouse, pairs, everywhere=config.everywhere)


def _done(
    context: dg.OpExecutionContext, config: ForgetConfig, warehouse: Warehouse, person: Person
) -> dg.Output[None]:
    def tell(line: str) -> None:
        context.log.info(discreet(person, line))

    if not config.do:
        made = plan(warehouse, person, remove_objects=config.remove_objects, tell=tell)
        return dg.Output(
            None,
            metadata={
                "rows": show.reasons(dict(made.rows)),
                **show.numbers(
                    {
                        "objects": len(made.of("rewrite", "remove")), "waiting": len(made.of("wait")), "stuck": len(made.of("stuck")),
                        "former_versions": len(made.former), "notes": len(made.notes), "elsewhere": made.elsewhere,
                    }
                ),
            },
        )  # fmt: skip
    done = forget(
        warehouse,
        person,
        by=config.by,
        why=config.why,
        remove_objects=config.remove_objects,
        run_id=context.run_id,
        tell=tell,
    )
    numbers = {
        "objects": len(done.changes),
        "waiting": len(done.waiting),
        "stuck": len(done.stuck),
        "elsewhere": done.elsewhere,
    }
    shown = show.numbers(numbers)
    if not done.is_done:
        left = [discreet(person, line) for line in (*done.waiting, *done.stuck)]
        raise dg.Failure(
            f"not done yet: {'; '.join(left[:10])}\nHint: run it again when that is there, or mended",
            metadata=shown,
            allow_retries=False,
        )
    return dg.Output(None, metadata={"certificate": dg.MetadataValue.text(done.certificate), **shown})


@dg.job(
    name="forget",
    description="A person is taken out of everything that has landed and was made of it. The configuration names a file with the keys.",
)
def forget_job() -> None:
    """The one step."""
    forget_person()
