"""
Writing into a Kinesis stream: for the demo, for tests, and for whoever has records to send.

Belongs here: batches, sending again exactly what failed, and where records go that can't be sent. Doesn't: reading (`kinesis.py`).

The records of a partition key keep their order. PutRecords doesn't promise that: it takes what it can, and what was refused comes later than
what followed it. So a record waits for those of its key before it: a key is in a request as often as it likes, and when one of its
records is refused, those behind it that were taken can't be called back. Only one record of a key at a time would be safe; that is what
`is_ordered` does. Without it, requests are full, and a key's order holds unless one of its records is refused.
"""
