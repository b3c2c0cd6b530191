"""StreamHouse beside Apache Kafka, the disk and the object store, in one run on one machine."""
