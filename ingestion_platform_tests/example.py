"""The example business in its smallest form: one store, one product, two days of sales, one of them with a bad line."""

import gzip
from datetime import date
from pathlib import Path

FIRST, SECOND = date(2024, 10, 1), date(2024, 10, 2)
HEADER = "transaction_id,store_id,sold_at,product_id,quantity,unit_price_zar,amount_zar,payment_method,customer_id\n"


def sale(number: str, day: date, quantity: str = "2") -> str:
    """A till line of ten in the morning."""
    return f"{number},S0001,{day} 10:00:00,P00001,{quantity},12.50,25.00,cash,C1\n"


def land_example(root: Path) -> None:
    """Write its files."""
    put(
        root,
        "reference/stores/2024/10/01/stores.csv",
        b"store_id,store_name,region,country,latitude,longitude,opened_on\n"
        b"S0001,Sandton,Gauteng,ZA,-26.1076,28.0567,2020-01-01\n",
    )
    products = "product_id;product_name;category;list_price_zar\nP00001;Rooibos;Tea;12.50\n"
    put(root, "reference/products/year=2024/month=10/day=01/products.csv.gz", gzip.compress(products.encode()))
    put(root, "sales/2024/10/01/S0001.csv", (HEADER + sale("T1", FIRST) + sale("T2", FIRST, "many")).encode())
    put(root, "sales/2024/10/02/S0001.csv", (HEADER + sale("T3", SECOND)).encode())


def put(root: Path, key: str, content: bytes) -> None:
    """Write an object."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
