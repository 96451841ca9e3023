package condition

import "time"

// The ids. Each is set by the code that its comment names.
const (
	NodeNotRunning      ID = "node-not-running"      // node
	MemberDown          ID = "member-down"           // node: members
	DiskFull            ID = "disk-full"             // node: budget
	NodeDrained         ID = "node-drained"          // node
	DiskHigh            ID = "disk-high"             // node: budget
	MemoryHigh          ID = "memory-high"           // node: budget
	CertificateExpiring ID = "certificate-expiring"  // node: files
	FileUnusable        ID = "file-unusable"         // node: files
	RestartNeeded       ID = "restart-needed"        // node: configuration
	Insecure            ID = "insecure"              // node: Open
	PasswordInClear     ID = "password-in-clear"     // node: Open
	FilesOpen           ID = "files-open"            // node: modes
	EncryptionOldKey    ID = "encryption-old-key"    // node: encryption
	ConnectionsRefused  ID = "connections-refused"   // node: HTTP
	AuditFailing        ID = "audit-failing"         // node: HTTP
	OIDCFailing         ID = "oidc-failing"          // node: HTTP
	ShardStopped        ID = "shard-stopped"         // node/shard: a leadership
	ShardWithoutLeader  ID = "shard-without-leader"  // node
	ShardHeld           ID = "shard-held"            // node
	SnapshotNotSent     ID = "snapshot-not-sent"     // node
	TermRefused         ID = "term-refused"          // node
	PeerRefused         ID = "peer-refused"          // node
	LevelLow            ID = "level-low"             // node/shard: rise
	PrivacyWaits        ID = "privacy-waits"         // node/shard: privacy
	PrivacyKeyMissing   ID = "privacy-key-missing"   // node/shard: privacy
	ShardStarting       ID = "shard-starting"        // node
	RulesDiffer         ID = "rules-differ"          // node
	SuppressionDiffers  ID = "suppression-differs"   // node
	SourceFailing       ID = "source-failing"        // node/shard: intake
	IntakePaused        ID = "intake-paused"         // node/shard: intake
	PartitionStopped    ID = "partition-stopped"     // node/shard: intake
	PartitionFailing    ID = "partition-failing"     // node/shard: intake
	PartitionPaused     ID = "partition-paused"      // node/shard: intake
	PartitionUnread     ID = "partition-unread"      // node/shard: judge
	TransactionOpen     ID = "transaction-open"      // node/shard: judge
	RecordsRejected     ID = "records-rejected"      // node/shard: judge
	KafkaTimesFalse     ID = "kafka-times-false"     // node/shard: judge
	ValuesZeroed        ID = "values-zeroed"         // node/shard: judge
	KeysInDisagreement  ID = "keys-in-disagreement"  // node/shard: judge
	SinkStopped         ID = "sink-stopped"          // node/shard: flusher
	SinkFailing         ID = "sink-failing"          // node/shard: flusher
	SinkNeverWrote      ID = "sink-never-wrote"      // node/shard: flusher
	SinkBehind          ID = "sink-behind"           // node/shard: judge
	CompactionFailing   ID = "compaction-failing"    // node: the lake
	VacuumFailing       ID = "vacuum-failing"        // node: the lake
	CommitsApart        ID = "commits-apart"         // node
	RowsRemoved         ID = "rows-removed"          // node: the lake
	BrandsMany          ID = "brands-many"           // node: the lake
	GroupOffsetsFailing ID = "group-offsets-failing" // node/shard: offsets
	LettersUndelivered  ID = "letters-undelivered"   // node: the sink of dead letters
	LettersCut          ID = "letters-cut"           // node: topics
	LettersKept         ID = "letters-kept"          // node: topics
	TopicCompacted      ID = "topic-compacted"       // node: topics
	TopicRetentionShort ID = "topic-retention-short" // node: topics
	TopicCreateTime     ID = "topic-create-time"     // node: topics
	TopicUnchecked      ID = "topic-unchecked"       // node: topics
	KeysUnproven        ID = "keys-unproven"         // node: Open
	ShardsIdle          ID = "shards-idle"           // node: topics
)

// Unready says what a condition does to the readiness of the node that has it.
type Unready uint8

// The effects on readiness.
const (
	Never         Unready = iota // the node stays ready
	AtOnce                       // the node is not ready while it holds
	AfterPatience                // the node is not ready once it has held for PatienceIntervals flush intervals
)

// FailingLasts is how long a source or a partition must have failed: the leader of a partition may be another one at
// any time, and until all know that, up to a quarter of a minute, it cannot be read.
const FailingLasts = 20 * time.Second

// The thresholds of the table that are numbers.
const (
	// PatienceIntervals is how many flush intervals nothing may flow before a node is not ready.
	PatienceIntervals = 3
	// BehindIntervals is how many flush intervals old what a sink does not have may be.
	BehindIntervals = 10
	// ExpiringDays is how many days before the end of a certificate somebody should know, ExpiringNowDays how many
	// before it becomes failing.
	ExpiringDays, ExpiringNowDays = 30, 7
	// BudgetShare is the share of a budget above which somebody should know.
	BudgetShare = 0.8
	// RejectedShare is the share of the records of RejectedMinutes that may become dead letters, if there are fewer
	// than RejectedFew of those.
	RejectedShare, RejectedMinutes, RejectedFew = 0.05, 5, 10
	// CountedShare is the share of the records of RejectedMinutes that may have what is only counted, if there are
	// fewer than RejectedFew of those: a Kafka timestamp that cannot be true, a value that counts as 0.
	CountedShare = 0.01
	// KeysShare is the share of the sessions looked up of the last RejectedMinutes that may be in several shards, if
	// there are fewer than RejectedFew of those; and, divided by the number of shards, the share of the records that
	// may come under another key, or in another partition, than the first one of their session.
	KeysShare = 0.01
	// ApartShare is the share of a node's commits of an hour that it may make by itself with delta.commit_wait, and
	// ApartFew how many it may in any case: as many as the committer has tokens for those that are late.
	ApartShare, ApartFew = 0.1, 36
	// PlacedShare is the share of at least PlacedFew records that one of the usual partitioners must explain.
	PlacedShare, PlacedFew = 0.9, 100
)

// Spec says what an id means.
type Spec struct {
	ID        ID
	Severity  Severity
	Subject   string // what it concerns
	Threshold string // when it begins
	Unready   Unready
	Todo      string // what to do
}

// Table lists every id, in the order of docs/operations.md.
func Table() []Spec { return table }

// lasts is how long a condition must have lasted to begin.
func lasts(id ID) time.Duration {
	switch id {
	case SourceFailing, PartitionFailing:
		return FailingLasts
	}
	return 0
}

func specOf(id ID) Spec {
	for _, s := range table {
		if s.ID == id {
			return s
		}
	}
	return Spec{ID: id, Severity: Degraded}
}

// Of returns what an id means; of an id that this version does not know, a Spec of severity Degraded.
func Of(id ID) Spec { return specOf(id) }

var table = []Spec{
	{NodeNotRunning, Failing, "node",
		"the node is no member of its cluster yet, or has ended", AtOnce,
		"Wait for the other nodes, if the cluster or this node's membership is new. If it lasts, the text names what " +
			"is missing."},
	{MemberDown, Degraded, "the other node",
		"another node has not answered two questions in a row of this node; failing instead of degraded if no " +
			"further member can be lost", Never,
		"Start that node again, or mend the network between the two. One that is lost for good is replaced: start a " +
			"node of its name with an empty folder. Until then take no other node down if the text says that none " +
			"can be lost."},
	{DiskFull, Failing, "node",
		"a write has found the file system full, and limits.reserve_bytes were given up for it; or it has no room " +
			"for them",
		AtOnce,
		"Make room on the file system of data_dir: the node goes on by itself with twice limits.reserve_bytes free. " +
			"Until then intake rests, and of three nodes this one takes no entries and leads no shard; it loses " +
			"nothing."},
	{NodeDrained, Notice, "node",
		"an operator has drained the node: it leads no shard that another node can lead", Never,
		"Stop it for what it was drained for, or end it: `deckle cluster undrain NODE`. A restart ends it, too."},
	{DiskHigh, Degraded, "node",
		"the data folder takes more than 80 % of limits.disk_bytes, or free space is within 25 % of its lower bound",
		Never,
		"Find out which sink is behind, or make room: intake pauses at the budget. Until then partitions that run " +
			"ahead of their shard's clock wait."},
	{MemoryHigh, Degraded, "node",
		"sessions take more than 80 % of the memory at which intake pauses (2 × limits.session_memory_bytes)", Never,
		"Raise limits.session_memory_bytes, or lower flush.interval: what has changed since the last flush stays in " +
			"memory. Meanwhile partitions that run ahead of their shard's clock wait."},
	{CertificateExpiring, Degraded, "the key of the file",
		"a certificate in use, or the first CA of a bundle to expire, expires within 30 days; failing instead of " +
			"degraded from 7 days on", Never,
		"Replace the file: deckle certs node NAME --force makes a node's certificate anew, deckle certs rotate " +
			"another CA. It is read within ten seconds; no restart is needed."},
	{FileUnusable, Degraded, "the key of the file, or configuration",
		"a certificate, key, CA bundle or secret has changed and could not be used for a minute: missing, broken, " +
			"empty, or a certificate without its key; or the configuration has changed and is not good", Never,
		"Put right what the text says; it is read within ten seconds. What was in use before stays in use, but a " +
			"restart would fail."},
	{RestartNeeded, Notice, "configuration",
		"the file of the configuration says something else than the node runs with, of a key that a running node " +
			"does not take over", Never,
		"Restart the node when that suits, or put the file back. What is fixed when a cluster is created a restart " +
			"refuses, too."},
	{Insecure, Degraded, "the TLS block, between nodes, or http",
		"its insecure_skip_verify is set, or cluster.insecure, or http.insecure; the text says what that opens", Never,
		"Give the block the CA of the other end (ca), HTTP its tls and auth (operations.md, Who may ask), and take " +
			"the key away. Between nodes: give each node a certificate (deckle certs) and cluster.tls, one after the " +
			"other, and then take cluster.insecure away, one after the other; nothing has to stop."},
	{PasswordInClear, Degraded, "the key",
		"a password goes to another host unencrypted: Kafka's mechanism plain or oauthbearer without kafka.tls, " +
			"ClickHouse's password without clickhouse.tls, or S3's session tokens over http", Never,
		"Do what the text says; whoever can read the network can read it now, so take another password as well."},
	{FilesOpen, Degraded, "the path",
		"other users of the machine can read or change a secret, a key or a local lake, or something in the data " +
			"folder that could not be tightened", Never,
		"Run the command in the text. Have the data folder, and all that is in it, belong to the user of the node, " +
			"and restart it. A lake that others are to read has delta.shared: true."},
	{EncryptionOldKey, Notice, "data_dir",
		"files of the data folder have another key than the first of encryption.keys, or none; or a key, where " +
			"encryption.new_files is plain. Looked for at start and every ten minutes", Never,
		"Leave the old keys in the configuration. Files are written anew by and by; to have it done at once, stop " +
			"the node and run deckle encryption rewrite. The condition ends when the old keys can go."},
	{ConnectionsRefused, Notice, "http",
		"connections of HTTP have been closed for a minute, because too many were open", Never,
		"Find out who opens them. If they are wanted, raise the limit of open files or http.max_connections; a proxy " +
			"that brings many clients belongs into http.trusted_proxies."},
	{AuditFailing, Failing, "node",
		"the last line of the audit log could not be written: verbs and looks at sessions are refused, figures go on",
		Never,
		"Make room, or mend the rights of http.audit.file: the next line that can be written ends it."},
	{OIDCFailing, Degraded, "node",
		"the issuer of http.auth.oidc could not be asked for its keys: access tokens whose key is known count, " +
			"others are refused", Never,
		"See that the node reaches the issuer, by the CA of http.auth.oidc.ca. Tokens of http.auth.tokens and " +
			"certificates count meanwhile. The next question that is answered ends it: one is asked with the next " +
			"such token, every 30 s at most."},
	{ShardStopped, Stopped, "the shard",
		"its leader found what it must not go on with (a topic or a store that refuses it before anything " +
			"exists, another configuration, a sink ahead of the state)", AtOnce,
		"Do what the text says. A topic or a store is looked at again by itself; otherwise restart the node."},
	{ShardWithoutLeader, Failing, "the shard",
		"this node knows no leader of the shard", AtOnce,
		"It passes within seconds after a leader was lost. If it lasts, fewer than a majority of the nodes run or " +
			"reach each other."},
	{ShardHeld, Stopped, "the shard",
		"its log has an entry of a newer version, which this node cannot read yet", AtOnce,
		"Install the version of the other nodes on this one, and restart it. Nothing is lost: it reads the log from " +
			"that entry on. It counts for no majority meanwhile; after long it takes no entries any more."},
	{SnapshotNotSent, Degraded, "the shard",
		"its leader could not send a snapshot to a member that needs one, within the last minute", Never,
		"Do what the text says on that member; until then it does not catch up."},
	{TermRefused, Failing, "the shard",
		"for ten seconds requests of other members have been refused because their term is more than 2³² above that " +
			"of this node, and it has known no leader", AtOnce,
		"Somebody has raised the term of the shard while this node was away. If the other nodes have a leader, stop " +
			"this one, move its data folder away and start it with an empty one: it rejoins. Find out who did it."},
	{PeerRefused, Degraded, "the other node, or the address, or node if neither is known",
		"in the last ten minutes a connection with a certificate of the nodes' CA, or a request or an answer on one, " +
			"was refused, because it cannot be what it says", Never,
		"Compare the names and addresses of the nodes in all configurations, and find out what runs at that address " +
			"with that certificate; a former data folder of that node does it, too. The text says what was refused."},
	{LevelLow, Degraded, "the shard",
		"for a minute its level has been below that of its leader's version, because a member does not answer or has " +
			"an earlier version; notice instead of degraded if only another node's cluster.max_level holds it down",
		Never,
		"Start the member in the text, with the version of the others, or raise cluster.max_level there. One that is " +
			"lost for good is replaced: start a node of its name with an empty folder. Until then what came with the " +
			"level is missing: its columns are null, and partitions cannot be skipped."},
	{PrivacyWaits, Stopped, "the shard",
		"the configuration of its leader asks for what its level does not know yet, to keep personal data back, or " +
			"has other rules about personal data under the same rules.revision", AtOnce,
		"Mend what holds the level down, by the text, or take the key in the text away; raise rules.revision in the " +
			"files of all nodes if the rules were changed. Nothing is read until then, and nothing is lost while " +
			"Kafka keeps the records."},
	{PrivacyKeyMissing, Stopped, "the shard",
		"its leader has no file with a key that the rules of the shard hash with, or that earlier rules did whose " +
			"epochs some sink does not have yet", AtOnce,
		"Give the node the file of the key (privacy.keys) and restart it. Nothing is read until then, and nothing is " +
			"lost while Kafka keeps the records. Once a minute the shard is offered to another node, which may have " +
			"it."},
	{ShardStarting, Notice, "the shard",
		"this node leads the shard and does not read for it yet", AtOnce,
		"Nothing, unless it lasts: then the text says what it waits for."},
	{RulesDiffer, Notice, "the shard, on this node",
		"the rules in this node's configuration are not those of the shard; if its rules.revision is greater, after " +
			"a minute", Never,
		"Give all nodes the same rules, with a rules.revision that is greater than the shard's if they shall change, " +
			"and restart the nodes. Until then all nodes judge by the shard's rules."},
	{SuppressionDiffers, Degraded, "cluster",
		"for a minute the shards' lists of suppressed readers have not been the same, by the replicas of this node",
		Never,
		"Run deckle suppress repair: it gives every shard the list of shard 0, which is always changed first. Until " +
			"then a reader may be let in by one shard and not by another."},
	{SourceFailing, Failing, "the shard",
		"Kafka, or its topic, has not been read for 20 seconds", AfterPatience,
		"Look at the brokers, the network and the rights on the topic; the text has Kafka's error. Nothing is lost, " +
			"reading goes on by itself."},
	{IntakePaused, Degraded, "the shard",
		"intake has reached a limit and rests", Never,
		"Remove the cause in the text: a disk or memory budget, free space, a sink that is too far behind. Intake " +
			"resumes by itself."},
	{PartitionStopped, Stopped, "the partition",
		"to read on would skip or repeat records, or count them wrongly", AtOnce,
		"Do what the text says. It goes on by itself where it is proven that nothing is lost; otherwise deckle " +
			"partitions skip gives offsets up, and deckle partitions resume tries again. The other partitions go on."},
	{PartitionFailing, Failing, "the partition",
		"for 20 seconds it has not been read although others are: a broken or too large batch, a missing right, " +
			"nothing delivered, or no broker tells where it ends", Never,
		"Do what the text says, or look at the partition's leader in Kafka. The other partitions are read, and it " +
			"goes on by itself once it can be read. If it never will, deckle partitions skip gives the batch up."},
	{PartitionPaused, Notice, "the partition",
		"it is ahead of the shard's clock, by more than an hour of event time or, near a budget (disk-high, " +
			"memory-high), by more than twice rules.clock.slack, and waits for the others", Never,
		"Nothing: the others are a backlog that is being read. Near a budget, what disk-high or memory-high says."},
	{PartitionUnread, Degraded, "the partition",
		"it was added to the topic after the cluster was created, and nobody reads it", Never,
		"deckle partitions add --dry-run shows what is in it and which open sessions may split; deckle partitions " +
			"add reads it from its beginning. Before Kafka's retention deletes what it has."},
	{TransactionOpen, Degraded, "the shard",
		"records have waited for 10 flush intervals behind an open transaction of another producer", Never,
		"Find the producer (kafka-transactions.sh find-hanging) and end or abort its transaction."},
	{RecordsRejected, Degraded, "the shard",
		"more than 5 % of the records of the last 5 minutes, and at least 10, became dead letters", Never,
		"Look at the letters of the reason in the text in the dead letter topic, and at who sends them."},
	{KafkaTimesFalse, Degraded, "the shard",
		"more than 1 % of the records of the last 5 minutes, and at least 10, have a Kafka timestamp that is missing " +
			"or cannot be true", Never,
		"Look at the clocks of the producers and at what they set as timestamp, or let the brokers set it " +
			"(message.timestamp.type=LogAppendTime)."},
	{ValuesZeroed, Degraded, "the shard",
		"values of engagement_metrics that are no number, and count as 0, are more than 1 % of the records of the " +
			"last 5 minutes, and at least 10", Never,
		"Look at who sends the fields in the text. Sums of them are too low until they are sent as numbers; raw " +
			"events have what was sent."},
	{KeysInDisagreement, Degraded, "the shard, where there are several",
		"of the last 5 minutes: more than 1 % of the sessions that were looked up, and at least 10, are in another " +
			"shard, too; or more than 1 % of the records, divided by the number of shards, and at least 10, came " +
			"under another key, or in another partition, than the first record of their session; or none of murmur2, " +
			"CRC32 and FNV-1a of the key explains 90 % of the partitions of at least 100 records", Never,
		"Let producers key all records of a session by its session_id, also after a login, and with one partitioner " +
			"(librdkafka: partitioner=murmur2_random). Until then a session may be counted in several shards. Or " +
			"create a new cluster with cluster.shards: 1."},
	{SinkStopped, Stopped, "the sink of a shard",
		"to write would damage the table, or the table is not as expected", AtOnce,
		"Do what the text says. It is tried again, every five minutes at the latest, and goes on by itself, at once " +
			"after deckle partitions skip --sink events; what stands in the configuration needs a restart. The " +
			"other sinks go on."},
	{SinkFailing, Failing, "the sink of a shard",
		"writing fails and is repeated; it has worked since the node was started", Never,
		"Look at the store in the text. Nothing is lost while the disk budget lasts; writing goes on by itself. Raw " +
			"events that Kafka cannot give again are given up with the command in the text, if need be."},
	{SinkNeverWrote, Failing, "the sink of a shard",
		"writing fails and is repeated; this node has written nothing to that sink since it was started", AfterPatience,
		"Look at address, credentials and rights of the sink in the configuration, then at the store."},
	{SinkBehind, Degraded, "the sink of a shard",
		"it does not have what was closed more than 10 flush intervals ago (revisions: 10 × delta.revision_interval)",
		Never,
		"Look at whether the sink fails or is slow (deckle_sink_flush_seconds). Readers see old figures meanwhile."},
	{CompactionFailing, Degraded, "the table",
		"three rounds of compaction in a row have failed (delta.compaction)", Never,
		"Look at the store and the free space in the text. Writing goes on, and every row can be read; until it " +
			"works again small files pile up, and readers get slower."},
	{VacuumFailing, Degraded, "the table",
		"vacuum is due and has failed three times in a row (delta.vacuum)", Never,
		"Look at the store and the rights in the text: vacuum lists and deletes. A table with a feature that it does " +
			"not know it refuses: undo that, or vacuum with the tool that has set it and set delta.vacuum.enabled: " +
			"false. Until then the store keeps what nothing needs."},
	{CommitsApart, Notice, "node",
		"more than a tenth of the commits of Delta tables that its rows were in during the last hour, and more than " +
			"36, it has made by itself (not with delta.commit_wait: 0s)", Never,
		"Look at the port between the nodes, at whether all of them have this version and the same " +
			"delta.commit_wait, and whether the node that leads shard 0 reaches the store " +
			"(deckle_delta_offers_total). Nothing is lost; the tables have more commits."},
	{RowsRemoved, Degraded, "the table",
		"a RESTORE by another tool has taken rows of Deckle's away, and nobody has said what becomes of them", Never,
		"Run one of the two commands in the text: deckle delta restore with --rows=again brings them back, deckle " +
			"delta forget-gaps gives them up. New rows are written; revisions of the table wait, and so do " +
			"compaction and vacuum while they do."},
	{BrandsMany, Degraded, "the table",
		"sessions is partitioned by brand (delta.sessions.partition_by), and its files have more than 500 brands",
		Never,
		"Find the producer that sends them (SELECT opening_brand, count(*) … GROUP BY 1) and stop it. Nothing is " +
			"lost; flushes take longer with each brand, and readers find more small files. A table keeps the brands " +
			"that it has: where they are no short list, give sessions a new location and partition it by date."},
	{GroupOffsetsFailing, Notice, "the shard",
		"the offsets of Kafka's consumer group cannot be written", Never,
		"Grant READ on the group, or ignore it: the offsets serve tools that show lag, nobody reads them back."},
	{LettersUndelivered, Degraded, "the dead letter topic",
		"in the last hour it took a dead letter in no form, not even as key and reason", Never,
		"Look at the topic's max.message.bytes, at what validates its records, and at the position in the text."},
	{LettersCut, Notice, "the dead letter topic",
		"its max.message.bytes is less than the longest dead letter", Never,
		"Run the command in the condition, or leave it: long letters are cut until they fit."},
	{LettersKept, Degraded, "the dead letter topic",
		"it keeps dead letters for longer than kafka.dlq_retention, or for ever: its cleanup.policy lacks delete, or " +
			"its retention.ms is greater", Never,
		"Run the command in the condition, or raise kafka.dlq_retention: letters may have personal data in them. " +
			"Deckle alters no topic."},
	{TopicCompacted, Degraded, "the topic",
		"its cleanup.policy contains compact, and kafka.allow_compacted is not set", Never,
		"Run the command in the condition: compaction removes events before they are read."},
	{TopicRetentionShort, Degraded, "the topic",
		"it keeps its records for less time than an outage may last: until the disk budget is used up at the rate of " +
			"the last hour, 72 hours at most", Never,
		"Run the command in the condition, or lower limits.disk_bytes."},
	{TopicCreateTime, Notice, "the topic",
		"message.timestamp.type is CreateTime, and no setting bounds how far ahead such a time may be", Never,
		"Run the command in the condition."},
	{TopicUnchecked, Notice, "the topic",
		"the account lacks the right to ask for its configuration, or the brokers do not tell", Never,
		"Grant the right in the text; nothing else depends on it."},
	{KeysUnproven, Notice, "the topic",
		"when the cluster was created, fewer than 10 sessions had two records among the newest of the topic", Never,
		"Make sure that producers key their records by session_id. It ends with the next start."},
	{ShardsIdle, Notice, "the topic",
		"there are more shards than partitions", Never,
		"Nothing, or create a new cluster with fewer shards."},
}
