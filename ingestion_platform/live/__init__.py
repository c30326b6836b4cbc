"""
Live rules on the running stream: judged as records come, alerts landed at once.

| module | what |
|---|---|
| `engine` | the watcher: records come in, changes of alerts go out |
| `judging` | one stream's records to alerts that are deserved, by the same contract as the tables |
| `landed_alerts` | alerts in the landing zone: what stands, and what changes |
| `visible` | alerts that have landed as rows, at once |

Belongs here: what happens with the running stream. Doesn't: what rules say (`rules/`),
declarations (`datasets/`), telling alerts (`sinks/`).
"""
