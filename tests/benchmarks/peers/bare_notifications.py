"""What an endpoint costs that checks a body like ours and inserts one row, without any of ours."""

import os
import sqlite3

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, event, insert

engine = create_engine(os.environ["BARE_URL"], pool_size=40)
if engine.dialect.name == "sqlite":

    @event.listens_for(engine, "connect")
    def durable(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")


rows = Table("bare", MetaData(), Column("id", Integer, primary_key=True), Column("note", String))
rows.create(engine, checkfirst=True)
app = FastAPI()


class Asked(BaseModel):
    template_key: str
    client_id: str
    context: dict[str, object]
    idempotency_key: str


@app.post("/api/notifications", status_code=202)
def insert_one(asked: Asked) -> dict[str, str]:
    with engine.begin() as connection:
        made = connection.execute(insert(rows), {"note": asked.client_id})
    return {"id": str(made.inserted_primary_key[0]), "status": "QUEUED"}
