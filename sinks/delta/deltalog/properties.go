package deltalog

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Properties of a table that say how its log is to be kept. They are the table's own: whoever sets them in its metaData
// is obeyed, by every tool.
const (
	configTxnRetention        = "delta.setTransactionRetentionDuration"
	configAppendOnly          = "delta.appendOnly"
	configLogRetention        = "delta.logRetentionDuration"
	configTombstoneRetention  = "delta.deletedFileRetentionDuration"
	configCleanup             = "delta.enableExpiredLogCleanup"
	configCheckpointInterval  = "delta.checkpointInterval"
	configCheckpointRetention = "delta.checkpointRetentionDuration"
	configChangeData          = "delta.enableChangeDataFeed"
	configProtected           = "delta.requireCheckpointProtectionBeforeVersion"
)

// The values that the protocol, or Spark where the protocol has none, gives to properties that are not set.
const (
	defaultLogRetention        = 30 * day
	defaultTombstoneRetention  = 7 * day
	defaultCheckpointRetention = 2 * day

	day = 24 * time.Hour
)

// ForEver is a retention that never ends: 292 years.
const ForEver = time.Duration(math.MaxInt64)

// properties are the table's wishes, or what holds without them. A value that cannot be read is taken for the one that
// deletes nothing: unread names it.
type properties struct {
	logRetention        time.Duration
	tombstoneRetention  time.Duration
	checkpointRetention time.Duration
	cleanup             bool
	checkpointInterval  int64 // commits, 0: not set
	appendOnly          bool
	changeData          bool
	protected           int64 // what is older than this version goes all at once or not at all
	unread              []string
}

// propertiesOf reads the properties of a table. logRetention is what holds if the table has none.
func propertiesOf(cfg map[string]string, logRetention time.Duration) properties {
	p := properties{logRetention: logRetention, tombstoneRetention: defaultTombstoneRetention,
		checkpointRetention: defaultCheckpointRetention, cleanup: true}
	unread := func(key string, err error) {
		p.unread = append(p.unread, fmt.Sprintf("%s = %q: %v", key, cfg[key], err))
	}
	for key, d := range map[string]*time.Duration{configLogRetention: &p.logRetention,
		configTombstoneRetention: &p.tombstoneRetention, configCheckpointRetention: &p.checkpointRetention} {
		if text, ok := cfg[key]; ok {
			var err error
			if *d, err = ParseInterval(text); err != nil {
				*d = ForEver
				unread(key, err)
			}
		}
	}
	for key, b := range map[string]*bool{configCleanup: &p.cleanup, configAppendOnly: &p.appendOnly,
		configChangeData: &p.changeData} {
		if text, ok := cfg[key]; ok {
			*b = strings.EqualFold(text, "true")
			if !*b && !strings.EqualFold(text, "false") {
				*b = key != configCleanup
				unread(key, errors.New("want true or false"))
			}
		}
	}
	if text, ok := cfg[configCheckpointInterval]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && n <= 0 {
			err = errors.New("want a number of commits above 0")
		}
		if err != nil {
			n = 0
			unread(configCheckpointInterval, err)
		}
		p.checkpointInterval = n
	}
	if text, ok := cfg[configProtected]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			n = math.MaxInt64
			unread(configProtected, err)
		}
		p.protected = n
	}
	return p
}

var intervalUnits = map[string]time.Duration{
	"nanosecond": time.Nanosecond, "microsecond": time.Microsecond, "millisecond": time.Millisecond,
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": day, "week": 7 * day,
}

// ParseInterval reads an interval as tools write it into properties: "interval 30 days", "1 week 2 hours". The word
// interval may be missing, case does not matter, a unit may have an s. Months and years have no length and are refused,
// as Spark refuses them, and so are negative numbers. What is longer than ForEver is ForEver.
func ParseInterval(text string) (time.Duration, error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) > 0 && words[0] == "interval" {
		words = words[1:]
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, errors.New("not an interval: want numbers with units")
	}
	var sum time.Duration
	for i := 0; i < len(words); i += 2 {
		n, err := strconv.ParseUint(strings.Trim(words[i], "'"), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("not an interval: %w", err)
		}
		unit, ok := intervalUnits[strings.TrimSuffix(words[i+1], "s")]
		switch {
		case !ok:
			return 0, fmt.Errorf("not an interval: the unit %q has no fixed length or is unknown", words[i+1])
		case n > uint64(ForEver/unit) || sum > ForEver-time.Duration(n)*unit:
			sum = ForEver
		case sum < ForEver:
			sum += time.Duration(n) * unit
		}
	}
	return sum, nil
}
