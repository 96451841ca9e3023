package condition

// Look returns where to look first when a condition holds, for its section in docs/operations.md. "" for an id that
// this version does not know.
func Look(id ID) string { return look[id] }

var look = map[ID]string{
	NodeNotRunning: "`/readyz` of the node, and its log from the last start on; `deckle status` of another node says " +
		"whether that one hears it.",
	MemberDown: "`deckle status`, column STATE; `deckle_peer_up` on each of the other nodes: if only one of them " +
		"misses it, it is the network between those two.",
	DiskFull: "`df` of data_dir on that node; `deckle_node_disk_free_bytes`, `deckle_node_disk_reserve_bytes`, " +
		"`deckle_node_disk_bytes`: whose files are they, Deckle's or others'? See [A full disk](#a-full-disk).",
	NodeDrained: "`deckle status`: which shards it leads still; the audit log says who has drained it.",
	DiskHigh: "`deckle status`, columns DISK and sinks; `deckle_node_disk_bytes`, `deckle_sink_behind_epochs`, " +
		"`deckle_wal_size_bytes`.",
	MemoryHigh: "`deckle_state_memory_bytes` by shard, `deckle_state_resident_sessions`, `deckle_sink_behind_epochs`.",
	CertificateExpiring: "`deckle status`, column CERTIFICATE; `deckle_certificate_expiry_timestamp_seconds`. See " +
		"[Certificates](#certificates).",
	RestartNeeded:   "`deckle config diff`, and which keys need none in [`configuration.md`](configuration.md).",
	FileUnusable:    "the file in the text, on the node that has found it. See [Certificates](#certificates).",
	Insecure:        "[Who may ask](#who-may-ask), and [`security.md`](security.md).",
	PasswordInClear: "the key in the text, in the configuration of that node. See [`security.md`](security.md).",
	FilesOpen:       "`ls -l` of the path in the text. See [`security.md`](security.md).",
	EncryptionOldKey: "`deckle encryption status`, on that node. See " +
		"[Encryption at rest](#encryption-at-rest).",
	ConnectionsRefused: "`deckle_http_refused_total` by why, `deckle_http_connections`; `ss -tn` on that node says " +
		"whose they are. See [HTTP](#http).",
	AuditFailing: "`df` and the rights of the folder of `http.audit.file`; `deckle_audit_lines_total`.",
	OIDCFailing:  "the text; `curl` the issuer's `/.well-known/openid-configuration` from that node.",
	ShardStopped: "the text, then [What has stopped](#what-has-stopped).",
	ShardWithoutLeader: "`deckle status`: which nodes are down; `deckle_raft_leadership_changes_total` and " +
		"`deckle_wal_fsync_seconds`, if all are up.",
	ShardHeld: "`deckle status`, column VERSION; [Versions and the level](#versions-and-the-level).",
	SnapshotNotSent: "the log of the member in the text; its free disk; `deckle_raft_snapshots_installed_total` " +
		"there.",
	TermRefused:       "`deckle_raft_term` on all nodes, and [`security.md`](security.md).",
	PeerRefused:       "`deckle_raft_requests_refused_total` and `deckle_raft_connections_refused_total` by why.",
	LevelLow:          "`deckle status`, columns VERSION and LEVEL; [Versions and the level](#versions-and-the-level).",
	PrivacyWaits:      "`rules.privacy` and `rules.revision` in all nodes' files; [Personal data](#personal-data).",
	PrivacyKeyMissing: "`privacy_keys` of the shard in `/api/v1/status`; [Personal data](#personal-data).",
	ShardStarting:     "the text; the log of that node.",
	RulesDiffer:       "`rules` in the files of all nodes: `diff` them.",
	SuppressionDiffers: "`deckle suppress list` at each node; [When a reader objects]" +
		"(#when-a-reader-objects).",
	SourceFailing: "the text; `deckle_source_errors_total` by kind; `deckle run --check` there asks the brokers.",
	IntakePaused:  "`deckle_shard_paused` by reason; `deckle status`, DISK and sinks.",
	PartitionStopped: "`deckle partitions status`; [A partition that cannot be read]" +
		"(#a-partition-that-cannot-be-read).",
	PartitionFailing: "`deckle partitions status`; [A partition that cannot be read]" +
		"(#a-partition-that-cannot-be-read).",
	PartitionPaused: "`ahead_partitions` of the shard in `/api/v1/status`; [Lag](#lag) of the others.",
	PartitionUnread: "`deckle partitions add --dry-run`; `deckle_source_unread_partitions`.",
	TransactionOpen: "`deckle_source_open_transaction_records`; [Lag](#lag).",
	RecordsRejected: "`deckle_state_dead_letters_total` by reason; `deckle dlq list --reason R`, `deckle dlq show`; " +
		"[Letters](#letters-look-mend-replay).",
	KafkaTimesFalse: "`deckle_state_kafka_times_false_total`.",
	ValuesZeroed:    "`deckle_state_values_zeroed_total` by field.",
	KeysInDisagreement: "`keys` of the shard in `/api/v1/status`; [Keys that do not keep sessions together]" +
		"(#keys-that-do-not-keep-sessions-together).",
	SinkStopped: "the text, then [What has stopped](#what-has-stopped); `deckle delta fsck` for a Delta table.",
	SinkFailing: "`deckle_sink_errors_total` by class: network, timeout and disk are the way there, answer is what " +
		"the store says; then the store's own log.",
	SinkNeverWrote: "`deckle_sink_errors_total` by class; `curl` the address in the configuration from that node; " +
		"[Object stores](#object-stores).",
	SinkBehind: "`deckle_sink_flush_seconds`, `deckle_sink_commit_timestamp_seconds`, `deckle_sink_errors_total`.",
	CompactionFailing: "[Compaction](#compaction); `deckle_delta_compaction_jobs_total` by outcome, and the node's " +
		"log.",
	CommitsApart: "`deckle_delta_rounds_late_total` by peer; [One commit for all nodes]" +
		"(#one-commit-for-all-nodes).",
	VacuumFailing: "[Vacuum](#vacuum); `deckle delta vacuum --dry-run`, and the node's log.",
	RowsRemoved: "`deckle delta log`, and `deckle delta diff` of the versions around the RESTORE; [Other tools " +
		"write, too](#other-tools-write-too).",
	BrandsMany: "`deckle_delta_session_brands`; `deckle delta show sessions` lists the partitions; [By brand and " +
		"date](#by-brand-and-date).",
	GroupOffsetsFailing: "`deckle_source_group_commits_total` by result; `deckle run --check`.",
	LettersUndelivered:  "`deckle_deadletter_undeliverable_total` by reason.",
	LettersCut:          "`kafka-configs.sh --describe` of the dead letter topic.",
	LettersKept:         "`kafka-configs.sh --describe` of the dead letter topic; [Personal data](#personal-data).",
	TopicCompacted:      "`kafka-configs.sh --describe` of the topic.",
	TopicRetentionShort: "`kafka-configs.sh --describe` of the topic; `deckle status`, column DISK.",
	TopicCreateTime:     "`kafka-configs.sh --describe` of the topic.",
	TopicUnchecked:      "`kafka-acls.sh --list`; `deploy/rights/kafka.sh` has all rights that Deckle needs.",
	KeysUnproven: "[Keys that do not keep sessions together](#keys-that-do-not-keep-sessions-together) says what " +
		"tells it once records come.",
	ShardsIdle: "`cluster.shards`, and `deckle partitions status`.",
}
