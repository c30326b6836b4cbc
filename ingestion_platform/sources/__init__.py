"""
How things get into the landing zone, where their producers don't put them there themselves: one module per kind of source.

| module | what |
|---|---|
| `reading` | what every kind of stream can do, and what it tells while it is read |
| `landed` | what of a stream has landed, told from names alone: where to go on, what is missing |
| `drain` | records into segments, until now or without end |
| `turns` | a few threads that take turns over many shards |
| `opening` | the reader of a declared stream, the client of an API, the folder of a remote |
| `remotes` | what every kind of remote folder can do, and which names no file may have |
| `local_folder`, `sftp`, `fsspec_folder` | a folder of this machine, an SFTP server, whatever fsspec knows |
| `copied`, `copying` | which versions of remote files have landed; what is new or changed into the landing zone |
| `spool`, `bandwidth` | large files on their way, part by part; how fast they are read |
| `kafka`, `kafka_client`, `kafka_records`, `schema_registry` | Kafka's partitions, its client, messages to envelopes, writers' schemas |
| `kinesis`, `kinesis_client`, `kinesis_records`, `kpl` | Kinesis's shards, its client, records to envelopes, aggregated records |
| `kinesis_producer` | records into Kinesis, for users and tests |
| `dynamodb_streams`, `dynamodb_records` | the changes of a DynamoDB table, records to envelopes |
| `aws_events` | records out of the documents that AWS hands to functions |

Belongs here: fetching, and landing what was fetched as it came. Doesn't: what it means (`formats/`, `warehouse/`), when it happens
(`orchestration/`). Each client library is known to its own module alone.
"""
