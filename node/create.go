package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/sinks/clickhouse"
	"deckle/sinks/deadletter"
	"deckle/sinks/delta/store"
	"deckle/trust"
)

// Made says what has become of one thing that may be made before the first start.
type Made string

// What may become of a thing.
const (
	MadeNow   Made = "made"
	MadeThere Made = "there"     // it was there before, and is as it was
	MadeToBe  Made = "would"     // it would be made, but for Create.DryRun
	MadeLater Made = "later"     // it is left to somebody else: Text says to whom
	MadeNot   Made = "not-made"  // Text says why, Todo what to do
	MadeOther Made = "different" // it is there, and is not what was asked for; it is as it was
)

// Step is one thing that was made, or was to be.
type Step struct {
	Subject string `json:"subject"` // the key that it is about, such as kafka.topic, or what it is
	Made    Made   `json:"made"`
	Text    string `json:"text"`
	Todo    string `json:"todo,omitempty"`
}

// Create says what is to be made, beside what every cluster needs: the topic of dead letters, the bucket, the database
// of ClickHouse.
type Create struct {
	// TopicPartitions has the source's topic be made if it is missing, with as many; 0: it is somebody else's.
	TopicPartitions int
	TopicRetention  time.Duration // of that topic, if it is made
	DryRun          bool          // looks, and makes nothing
}

// Run makes what the configuration names and is not there yet. What is there is never changed, and one thing that
// cannot be made keeps no other from it. deps are those of the node.
func (cr Create) Run(ctx context.Context, cfg *config.Config, deps Deps) (steps []Step) {
	deps.complete()
	deps.Logger = slog.New(slog.DiscardHandler)
	files := trust.NewFiles(deps.ReadFile, deps.Now, deps.Logger)
	c := &connector{cfg: cfg, deps: &deps, files: files, wire: &sinkWiring{cfg: cfg, deps: &deps, files: files}}
	for _, part := range []func(context.Context, *connector) []Step{cr.topics, cr.bucket, cr.database} {
		bounded, cancel := context.WithTimeout(ctx, connectTimeout)
		steps = append(steps, part(bounded, c)...)
		cancel()
	}
	return steps
}

func notMade(subject string, err error, todo string) Step {
	return Step{Subject: subject, Made: MadeNot, Text: err.Error(), Todo: todo}
}

// topics makes the topic of dead letters, with as many partitions as the source has, and the source if it is asked to.
func (cr Create) topics(ctx context.Context, c *connector) (steps []Step) {
	k, err := openKafka(c.cfg, c.deps, c.files, c.deps.Logger)
	if err != nil {
		return []Step{notMade("kafka", err, "")}
	}
	defer k.Close()
	source := c.cfg.Kafka.Topic
	partitions, err := k.Partitions(ctx, source)
	if err != nil {
		return []Step{notMade("kafka.topic", err, "")}
	}
	switch {
	case partitions > 0 && cr.TopicPartitions > 0 && partitions != cr.TopicPartitions:
		steps = append(steps, Step{Subject: "kafka.topic", Made: MadeOther, Text: fmt.Sprintf("%s has %d partitions, "+
			"not %d", source, partitions, cr.TopicPartitions)})
	case partitions > 0:
		steps = append(steps, Step{Subject: "kafka.topic", Made: MadeThere, Text: fmt.Sprintf("%s has %d partitions",
			source, partitions)})
	case cr.TopicPartitions == 0:
		steps = append(steps, Step{Subject: "kafka.topic", Made: MadeLater,
			Text: source + " is not there, and belongs " +
				"to those who write to it", Todo: "Have it made, or let deckle init make it: --topic-partitions N."})
	default:
		partitions = cr.TopicPartitions
		steps = append(steps, cr.topic(ctx, k, "kafka.topic", source, partitions, cr.sourceSettings))
	}
	letters := c.cfg.Kafka.DLQ
	switch have, err := k.Partitions(ctx, letters); {
	case err != nil:
		steps = append(steps, notMade("kafka.dlq", err, ""))
	case have > 0:
		steps = append(steps, Step{Subject: "kafka.dlq", Made: MadeThere, Text: fmt.Sprintf("%s has %d partitions",
			letters, have)})
	case partitions == 0:
		steps = append(steps, Step{Subject: "kafka.dlq", Made: MadeLater,
			Text: letters + " has as many partitions as " +
				"the source: the node makes it once that is there"})
	default:
		steps = append(steps, cr.topic(ctx, k, "kafka.dlq", letters, partitions, func(int) map[string]*string {
			return deadletter.TopicConfig(c.cfg.Kafka.DLQRetention)
		}))
	}
	return steps
}

// sourceSettings are those of a topic of events: nothing is compacted, the brokers set the Kafka times, so that no
// producer's clock makes others' events late, and with three replicas a record that was acknowledged is on two.
func (cr Create) sourceSettings(replicas int) map[string]*string {
	settings := map[string]*string{"cleanup.policy": new("delete"), "message.timestamp.type": new("LogAppendTime"),
		"retention.ms": new(strconv.FormatInt(cr.TopicRetention.Milliseconds(), 10))}
	if replicas > 2 {
		settings["min.insync.replicas"] = new("2")
	}
	return settings
}

func (cr Create) topic(ctx context.Context, k *kafka.Client, subject, topic string, partitions int,
	settings func(replicas int) map[string]*string,
) Step {
	if cr.DryRun {
		return Step{Subject: subject, Made: MadeToBe, Text: fmt.Sprintf("%s, with %d partitions", topic, partitions)}
	}
	replicas, err := k.CreateTopic(ctx, topic, partitions, settings)
	if err != nil {
		return notMade(subject, err, "deploy/rights/kafka.sh has the rights that are needed.")
	}
	return Step{Subject: subject, Made: MadeNow, Text: fmt.Sprintf("%s, with %d partitions and %d replicas", topic,
		partitions, replicas)}
}

// bucket makes the bucket of the Delta tables. A local folder is made by the node.
func (cr Create) bucket(ctx context.Context, c *connector) []Step {
	d := c.cfg.Delta
	if d == nil || d.S3 == nil {
		return nil
	}
	const subject = "delta.s3.bucket"
	st, err := c.wire.deltaStore(d)
	if err != nil {
		return []Step{notMade(subject, err, "")}
	}
	s3, ok := st.(*store.S3)
	if !ok {
		return nil // a test's
	}
	defer func() { _ = s3.Close() }()
	there, err := s3.HasBucket(ctx)
	if err != nil {
		todo, _ := store.Refused(err)
		return []Step{notMade(subject, err, todo)}
	}
	step := Step{Subject: subject, Made: MadeThere, Text: d.S3.Bucket}
	if there {
		return []Step{step}
	}
	if step.Made = MadeToBe; cr.DryRun {
		return []Step{step}
	}
	if err := s3.MakeBucket(ctx); err != nil && !errors.Is(err, store.ErrExists) {
		return []Step{notMade(subject, err, "Give the keys the right s3:CreateBucket, or make the bucket as somebody "+
			"who has it: the node itself does not need it.")}
	}
	step.Made = MadeNow
	return []Step{step}
}

// database makes the database of ClickHouse; the tables are made by the node that founds the cluster, as its own.
func (cr Create) database(ctx context.Context, c *connector) []Step {
	h := c.cfg.ClickHouse
	if h == nil {
		return nil
	}
	const subject = "clickhouse.database"
	sink, err := c.inspecting()
	if err != nil {
		return []Step{notMade(subject, err, "")}
	}
	defer func() { _ = sink.Close() }()
	server, err := sink.Inspect(ctx)
	if server == nil {
		todo, _ := clickhouse.Refused(err)
		return []Step{notMade(subject, err, todo)}
	}
	step := Step{Subject: subject, Made: MadeThere, Text: h.Database}
	if server.Exists {
		return []Step{step}
	}
	if step.Made = MadeToBe; cr.DryRun {
		if err != nil {
			step.Text += ", if it is not there, which is not known: " + err.Error()
		}
		return []Step{step}
	}
	if err := sink.CreateDatabase(ctx); err != nil {
		todo, _ := clickhouse.Refused(err)
		return []Step{notMade(subject, err, todo)}
	}
	step.Made = MadeNow
	return []Step{step}
}
