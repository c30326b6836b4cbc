"""
How each sender of the example business writes things down, down to the byte.

Belongs here: habits of senders (gzip, line ends, quotes, namespaces, time zones), all of them as the declarations in `datasets/` allow.
Doesn't: what is written (`business.py`), what goes wrong (`retailer.py`).
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion_platform.demo.business import Business, Delivery, Line, Movement, Payment, Store, StoreDay
from ingestion_platform.demo.customers import Customer, CustomerChange
from ingestion_platform.demo.plan import ZONE

SALES_COLUMNS = (
    "transaction_id",
    "store_id",
    "sold_at",
    "product_id",
    "quantity",
    "unit_price_zar",
    "amount_zar",
    "payment_method",
    "customer_id",
)


def zar(cents: int) -> str:
    """Rand with two decimals."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def sends_gzip(store: Store) -> bool:
    """Every fifth store's sales are compressed."""
    return store.number % 5 == 0


def stores_key(day: date) -> str:
    """Key of the roster of a day."""
    return f"reference/stores/{day:%Y/%m/%d}/stores.csv"


def products_key(day: date) -> str:
    """Key of the product list of a day."""
    return f"reference/products/year={day:%Y}/month={day:%m}/day={day:%d}/products.csv.gz"


def sales_key(store: Store, day: date, copy: str = "") -> str:
    """Key of a store's sales of a day; *copy* is added to the name."""
    return f"sales/{day:%Y/%m/%d}/{store.store_id}{copy}.csv{'.gz' if sends_gzip(store) else ''}"


def payments_key(store: Store, day: date) -> str:
    """Key of the payments by phone in a store on a day."""
    return f"mobile_payments/{day:%Y/%m/%d}/{store.store_id}.jsonl"


def delivery_key(delivery: Delivery, day: date) -> str:
    """Key of a manifest."""
    return f"deliveries/{day:%Y/%m/%d}/{delivery.supplier_id}-{delivery.manifest_number}.xml"


def count_key(store: Store, day: date) -> str:
    """Key of a store's count of a day."""
    return f"stock_counts/{day:%Y/%m/%d}/{store.store_id}.parquet"


def stores_bytes(business: Business, day: date) -> bytes:
    """The roster: CSV with CRLF, quotes where they are needed."""
    rows = [
        (
            store.store_id,
            store.name,
            store.region,
            store.country,
            str(store.latitude),
            str(store.longitude),
            f"{store.opened_on:%Y-%m-%d}",
        )
        for store in business.roster(day)
    ]
    columns = ("store_id", "store_name", "region", "country", "latitude", "longitude", "opened_on")
    return _csv(columns, rows, ",", "\r\n")


def products_bytes(business: Business, day: date) -> bytes:
    """The product list: CSV with semicolons, compressed."""
    rows = [
        (product.product_id, product.name, product.category, zar(business.price_cents(product.product_id, day)))
        for product in business.products
    ]
    return _gzip(_csv(("product_id", "product_name", "category", "list_price_zar"), rows, ";", "\n"))


def sales_row(line: Line) -> list[str]:
    """The cells of a till line."""
    return [
        line.transaction_id,
        line.store_id,
        f"{line.sold_at:%Y-%m-%d %H:%M:%S}",
        line.product_id,
        str(line.quantity),
        zar(line.unit_price_cents),
        zar(line.amount_cents),
        line.payment_method,
        line.customer_id,
    ]


def sales_text(store: Store, rows: Iterable[Sequence[str]], columns: Sequence[str] = SALES_COLUMNS) -> bytes:
    """A store's sales before compression: some tills write CRLF, some a byte-order mark, some quote every cell. No cell holds a quote."""
    end = "\r\n" if store.number % 7 == 0 else "\n"
    mark = "\ufeff" if store.number % 11 == 0 else ""
    left, between, right = ('"', '","', '"') if store.number % 4 == 1 else ("", ",", "")
    lines = "".join(f"{left}{between.join(row)}{right}{end}" for row in (columns, *rows))
    return (mark + lines).encode()


def sales_bytes(store: Store, rows: Iterable[Sequence[str]], columns: Sequence[str] = SALES_COLUMNS) -> bytes:
    """A store's sales as they are sent."""
    text = sales_text(store, rows, columns)
    return _gzip(text) if sends_gzip(store) else text


def payments_bytes(payments: Iterable[Payment]) -> bytes:
    """Payments as JSON lines; amounts are numbers with two decimals, times have an offset."""
    # json.dumps would write 12.5 for 12.50, so that amounts are put in by hand
    lines = []
    for payment in payments:
        items = ",".join(
            f'{{"transaction_id":{json.dumps(key)},"amount":{zar(cents)}}}' for key, cents in payment.items
        )
        lines.append(
            f'{{"payment_id":{json.dumps(payment.payment_id)},"store_id":{json.dumps(payment.store_id)},'
            f'"paid_at":"{payment.paid_at.replace(tzinfo=ZONE).isoformat()}",'
            f'"payment":{{"method":{json.dumps(payment.method)},"provider":{json.dumps(payment.provider)},'
            f'"amount":{zar(payment.amount_cents)}}},'
            f'"payer":{{"msisdn":{json.dumps(payment.phone_number)}}},"items":[{items}]}}\n'
        )
    return "".join(lines).encode()


def delivery_bytes(delivery: Delivery) -> bytes:
    """A manifest: one supplier writes a namespace and an offset, one writes UTC, the others local time."""
    local = delivery.delivered_at
    namespace, moment = "", local.isoformat()
    if delivery.supplier_id == "SUP2":
        namespace, moment = ' xmlns="urn:example:manifest:2"', local.replace(tzinfo=ZONE).isoformat()
    elif delivery.supplier_id == "SUP3":
        moment = f"{local.replace(tzinfo=ZONE).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    manifest_id = quoteattr(f"{delivery.supplier_id}-{delivery.manifest_number}")
    lines = "".join(
        f'    <line number="{number}"><product_id>{escape(product_id)}</product_id><quantity>{units}</quantity>'
        f'<unit_cost currency="ZAR">{zar(cents)}</unit_cost></line>\n'
        for number, (product_id, units, cents) in enumerate(delivery.lines, 1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<manifest{namespace} id={manifest_id}>\n"
        "  <header>\n"
        f"    <supplier_id>{escape(delivery.supplier_id)}</supplier_id>\n"
        f"    <store_id>{escape(delivery.store_id)}</store_id>\n"
        f"    <delivered_at>{moment}</delivered_at>\n"
        "  </header>\n"
        f"  <lines>\n{lines}  </lines>\n"
        "</manifest>\n"
    ).encode()


def movements_key(day: date) -> str:
    """Key of the bank's deposits and withdrawals of a day."""
    return f"account_events/{day:%Y/%m/%d}/tills.csv"


def movements_bytes(movements: Iterable[Movement]) -> bytes:
    """The bank's movements: CSV, times with an offset."""
    columns = ("event_id", "account_id", "store_id", "happened_at", "kind", "amount_zar")
    rows = [
        (
            one.event_id,
            one.account_id,
            one.store_id,
            one.happened_at.replace(tzinfo=ZONE).isoformat(),
            "deposit" if one.amount_cents > 0 else "withdrawal",
            zar(abs(one.amount_cents)),
        )
        for one in movements
    ]
    return _csv(columns, rows, ",", "\n")


def customers_key(day: date) -> str:
    """Key of what happened to the web shop's customers on a day."""
    return f"web_shop/{day:%Y/%m/%d}/customers.jsonl"


def customers_bytes(changes: Iterable[CustomerChange]) -> bytes:
    """The web shop's log: an event of Debezium a line, without a schema; of a removed row only its key is told."""
    lines = []
    for one in changes:
        before = None
        after: dict[str, object] | None = _customer(one.customer)
        if one.operation == "d":
            before, after = {"customer_id": one.customer.customer_id}, None
        elif not one.sends_email:
            after = {**_customer(one.customer), "email": "__debezium_unavailable_value"}
        ms = round(one.at.replace(tzinfo=ZONE).timestamp() * 1000)
        source = {"connector": "postgresql", "schema": "shop", "table": "customers", "lsn": one.position, "ts_ms": ms}
        event = {"op": one.operation, "before": before, "after": after, "source": source}
        lines.append(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def _customer(customer: Customer) -> dict[str, object]:
    joined = customer.joined_at.replace(tzinfo=ZONE).astimezone(UTC)
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "email": customer.email,
        "city": customer.city,
        "wants_mail": customer.wants_mail,
        "joined_at": f"{joined:%Y-%m-%dT%H:%M:%SZ}",
    }


def count_bytes(store_day: StoreDay) -> bytes:
    """A count as Parquet; every third store keeps its own time zone in the type, the others UTC."""
    zone = ZONE.key if store_day.store.number % 3 == 0 else "UTC"
    counted_at: datetime = store_day.counted_at.replace(tzinfo=ZONE)
    products = sorted(store_day.count)
    table = pa.table(
        {
            "store_id": pa.array([store_day.store.store_id] * len(products), pa.string()),
            "product_id": pa.array(products, pa.string()),
            "counted_at": pa.array([counted_at] * len(products), pa.timestamp("us", tz=zone)),
            "units": pa.array([store_day.count[product] for product in products], pa.int32()),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str, end: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)
