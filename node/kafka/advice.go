package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/sinks/rights"
)

// ErrCompacted refuses a topic from which the broker removes records that have a successor of the same key.
var ErrCompacted = errors.New("the topic is compacted")

// Refused says that an error of CheckNew is about the topic, and stays until somebody acts.
func Refused(err error) bool {
	return errors.Is(err, ErrUnkeyed) || errors.Is(err, ErrOtherKeys) || errors.Is(err, ErrCompacted)
}

// CheckNew looks at the topic before a cluster is created: it refuses one whose keys do not keep a session together,
// and one that is compacted unless kafka.allow_compacted is set (see Refused). notice says what could not be found out,
// "" if all could. Other errors may pass.
func (c *Client) CheckNew(ctx context.Context, cfg *config.Config) (notice string, err error) {
	if notice, err = c.CheckKeys(ctx, cfg.Kafka.Keyed, cfg.Cluster.Shards); err != nil {
		return "", err
	}
	if cfg.Kafka.AllowCompacted {
		return notice, nil
	}
	bounded, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	settings, err := c.settings(bounded, c.topic)
	switch {
	case err != nil: // Watch shows that the topic's configuration is not known
		return notice, ctx.Err()
	case compacts(settings):
		return "", fmt.Errorf("%w: %s has cleanup.policy=%s: the broker removes each record that has a later one of "+
			"the same key, which is every event of a session but the last, also before it is read. Ways out: %s; or, "+
			"if it is to be so, kafka.allow_compacted: true", ErrCompacted, c.topic, settings["cleanup.policy"],
			alter(cfg, c.topic, "cleanup.policy=delete"))
	}
	return notice, nil
}

func compacts(settings map[string]string) bool { return has(settings, "compact") }

// has says whether a topic's cleanup.policy contains one of the two policies.
func has(settings map[string]string, policy string) bool {
	return slices.Contains(strings.Split(strings.ReplaceAll(settings["cleanup.policy"], " ", ""), ","), policy)
}

// alter is the command that changes a topic's configuration. Deckle never does that to a topic that exists.
func alter(cfg *config.Config, topic, setting string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s "+
		"--add-config %s", cfg.Kafka.Brokers[0], topic, setting)
}

// settings asks for a topic's configuration.
func (c *Client) settings(ctx context.Context, topic string) (map[string]string, error) {
	answers, err := kadm.NewClient(c.admin).DescribeTopicConfigs(ctx, topic)
	if err == nil && len(answers) == 1 {
		err = answers[0].Err
	} else if err == nil {
		err = errors.New("no answer")
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: configuration of %s: %w", topic,
			rights.Explain(err, rights.Topic("DescribeConfigs", topic)))
	}
	out := map[string]string{}
	for _, s := range answers[0].Configs {
		out[s.Key] = s.MaybeValue()
	}
	return out, nil
}

// Needs are what a cluster needs of its topics, besides what its configuration says.
type Needs struct {
	LetterBytes int64 // the longest dead letter as it is produced, headers included
	DiskBytes   int64 // the disk budget; 0 if there is none
}

const (
	// outageBytes are the bytes that an event costs on disk while a sink is down; docs/performance.md has the figure.
	outageBytes = 16
	// outageMost is the longest outage that the topic is asked to outlast: a long weekend.
	outageMost = 72 * time.Hour
)

// standing is what the brokers say about the source topic's records.
type standing struct {
	partitions int
	perSecond  float64                 // records, over the last hour
	held       map[int32]time.Duration // age of the oldest record, of partitions whose beginning has been deleted
}

// Advise asks the brokers about both topics, and returns what does not fit the cluster: conditions without node and
// time, each with the command that mends it. now is the wall clock.
func (c *Client) Advise(ctx context.Context, cfg *config.Config, needs Needs, now time.Time) ([]condition.Condition,
	error) {
	info, err := c.Describe(ctx)
	if err != nil {
		return nil, err
	}
	var out []condition.Condition
	unknown := func(topic string, err error) {
		text := fmt.Sprintf("what topic %s is set to cannot be checked: %v", topic, err)
		out = append(out, finding(condition.TopicUnchecked, topic, text, ""))
	}
	source, err := c.settings(ctx, c.topic)
	if err != nil {
		unknown(c.topic, err)
	}
	letters, err := c.settings(ctx, cfg.Kafka.DLQ)
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) { // it is created with the first letter's sink
		unknown(cfg.Kafka.DLQ, err)
	}
	st, err := c.standing(ctx, now)
	if err != nil {
		unknown(c.topic, err)
	}
	st.partitions = info.Partitions
	return append(out, advise(cfg, needs, source, letters, st)...), ctx.Err()
}

// standing asks for offsets by time: an hour ago, and the first record.
func (c *Client) standing(ctx context.Context, now time.Time) (standing, error) {
	st := standing{held: map[int32]time.Duration{}}
	adm := kadm.NewClient(c.admin)
	starts, err := adm.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return st, c.mayRead(err)
	}
	first, err := adm.ListOffsetsAfterMilli(ctx, 0, c.topic)
	if err != nil {
		return st, c.mayRead(err)
	}
	hourAgo, err := adm.ListOffsetsAfterMilli(ctx, now.Add(-time.Hour).UnixMilli(), c.topic)
	if err != nil {
		return st, c.mayRead(err)
	}
	ends, err := adm.ListEndOffsets(ctx, c.topic)
	if err != nil {
		return st, c.mayRead(err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		p := end.Partition
		if from, ok := hourAgo.Lookup(c.topic, p); ok && from.Err == nil && end.Err == nil && from.Offset >= 0 {
			st.perSecond += float64(end.Offset-from.Offset) / time.Hour.Seconds()
		}
		start, ok := starts.Lookup(c.topic, p)
		oldest, known := first.Lookup(c.topic, p)
		if ok && known && start.Err == nil && oldest.Err == nil && start.Offset > 0 && oldest.Timestamp > 0 {
			st.held[p] = now.Sub(time.UnixMilli(oldest.Timestamp))
		}
	})
	return st, nil
}

func finding(id condition.ID, topic, text, todo string) condition.Condition {
	return condition.Condition{ID: id, Subject: "topic " + topic, Text: text, Todo: todo}
}

// advise judges what the brokers have said; nil settings are not known.
func advise(cfg *config.Config, needs Needs, source, letters map[string]string, st standing) []condition.Condition {
	var out []condition.Condition
	topic, dlq := cfg.Kafka.Topic, cfg.Kafka.DLQ
	add := func(id condition.ID, topic, text, todo string) { out = append(out, finding(id, topic, text, todo)) }
	if text := IdleShards(cfg.Cluster.Shards, st.partitions); text != "" {
		add(condition.ShardsIdle, topic, text, "")
	}
	if compacts(source) && !cfg.Kafka.AllowCompacted {
		add(condition.TopicCompacted, topic, "cleanup.policy is "+source["cleanup.policy"]+
			": the broker removes events before they are read",
			"Run "+alter(cfg, topic, "cleanup.policy=delete")+"; or set kafka.allow_compacted.")
	}
	outage := allowedOutage(cfg, needs.DiskBytes, st.perSecond)
	longer := (outage + 24*time.Hour).Milliseconds()
	mend := "Run " + alter(cfg, topic, fmt.Sprintf("retention.ms=%d,retention.bytes=-1", longer))
	kept, ok := bound(source, "retention.ms")
	switch {
	case ok && time.Duration(kept)*time.Millisecond < outage:
		add(condition.TopicRetentionShort, topic, fmt.Sprintf("retention.ms is %d (%s): the disk budget allows an "+
			"outage of %s, and the records must be there after it", kept,
			short(time.Duration(kept)*time.Millisecond), short(outage)), mend)
	default:
		if _, ok := bound(source, "retention.bytes"); !ok {
			break
		}
		for _, p := range slices.Sorted(maps.Keys(st.held)) {
			if age := st.held[p]; age < outage {
				add(condition.TopicRetentionShort, topic, fmt.Sprintf("with retention.bytes=%s, partition %d holds "+
					"the records of the last %s: the disk budget allows an outage of %s, and the records must be "+
					"there after it", source["retention.bytes"], p, short(age), short(outage)), mend)
				break
			}
		}
	}
	if source["message.timestamp.type"] == "CreateTime" && !boundsCreateTime(source) {
		todo := "message.timestamp.type=LogAppendTime"
		if _, ok := source["message.timestamp.after.max.ms"]; ok {
			todo = "message.timestamp.after.max.ms=3600000"
		}
		add(condition.TopicCreateTime, topic, "the producers set the Kafka times (message.timestamp.type=CreateTime), "+
			"and nothing bounds them: one clock that is days fast makes the events of the others too late in a "+
			"backlog", "Run "+alter(cfg, topic, todo))
	}
	if most, ok := bound(letters, "max.message.bytes"); ok && most < needs.LetterBytes {
		add(condition.LettersCut, dlq, fmt.Sprintf("max.message.bytes is %d, and a dead letter may have %d bytes: "+
			"longer ones are cut", most, needs.LetterBytes),
			"Run "+alter(cfg, dlq, fmt.Sprintf("max.message.bytes=%d", needs.LetterBytes)))
	}
	if text := lettersKept(cfg.Kafka.DLQRetention, letters); text != "" {
		add(condition.LettersKept, dlq, text, "Run "+alter(cfg, dlq, fmt.Sprintf(
			"cleanup.policy=[compact,delete],retention.ms=%d", cfg.Kafka.DLQRetention.Milliseconds()))+
			"; or raise kafka.dlq_retention.")
	}
	return out
}

// lettersKept says for how long the topic of dead letters keeps them, "" if that is not longer than it should be, or is
// not known.
func lettersKept(most time.Duration, letters map[string]string) string {
	policy, known := letters["cleanup.policy"]
	if !known {
		return ""
	}
	if !has(letters, "delete") {
		return fmt.Sprintf("cleanup.policy is %s: dead letters are kept for ever, and should go after %s", policy,
			short(most))
	}
	kept, bounded := bound(letters, "retention.ms")
	if !bounded {
		return fmt.Sprintf("retention.ms is %s: dead letters are kept for ever, and should go after %s",
			letters["retention.ms"], short(most))
	}
	if kept > most.Milliseconds() {
		return fmt.Sprintf("retention.ms is %d: dead letters should go after %s, which is %d", kept, short(most),
			most.Milliseconds())
	}
	return ""
}

// bound returns a setting that bounds something; -1 and what is not set or no number do not.
func bound(settings map[string]string, key string) (int64, bool) {
	n, err := strconv.ParseInt(settings[key], 10, 64)
	return n, err == nil && n >= 0
}

// boundsCreateTime says whether the broker refuses a record whose time is far ahead. Before Kafka 3.6 one setting
// bounds both sides.
func boundsCreateTime(settings map[string]string) bool {
	for _, key := range []string{"message.timestamp.after.max.ms", "message.timestamp.difference.max.ms"} {
		if n, ok := bound(settings, key); ok && n < math.MaxInt64/2 {
			return true
		}
	}
	return false
}

// allowedOutage is how long a sink may be down before the disk budget is used up, but outageMost at most; a topic must
// keep its records for so long, and for as long as the state keeps its sessions.
func allowedOutage(cfg *config.Config, disk int64, perSecond float64) time.Duration {
	outage := outageMost
	if disk > 0 && perSecond > 0 {
		seconds := float64(disk) / (perSecond * outageBytes)
		outage = time.Duration(min(seconds, outageMost.Seconds()) * float64(time.Second))
	}
	return max(outage, cfg.Session.Retention).Truncate(time.Minute)
}

// IdleShards says what is wrong with more shards than the topic has partitions, "" if there are not.
func IdleShards(shards, partitions int) string {
	if partitions == 0 || shards <= partitions {
		return ""
	}
	return fmt.Sprintf("cluster.shards is %d and the topic has %d partitions: %d shards have nothing to do. The "+
		"number of shards is fixed when the cluster is created: set it to %d or fewer before, or give the topic more "+
		"partitions before", shards, partitions, shards-partitions, partitions)
}

// short formats a duration in hours and minutes.
func short(d time.Duration) string {
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
