package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runPlace is where one run keeps its things; no two runs share any.
type runPlace struct {
	name     string // run-20261122-193000
	dir      string
	topic    string
	s3Prefix string
	database string
}

// newPlace makes a new folder below o.Dir.
func newPlace(o *Options) (*runPlace, error) {
	base := "run-" + o.Now().UTC().Format("20060102-150405")
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("demo folder: %w", err)
	}
	for i := 1; ; i++ {
		name := base
		if i > 1 {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		dir, err := filepath.Abs(filepath.Join(o.Dir, name))
		if err != nil {
			return nil, fmt.Errorf("demo folder: %w", err)
		}
		err = os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrExist) && i < 100 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("demo folder: %w", err)
		}
		p := &runPlace{name: name, dir: dir, topic: "web_clicks", database: "analytics"}
		if len(o.Brokers) > 0 { // a real service outlives the run, and nothing of another run may be read
			p.topic = "web_clicks_" + strings.ReplaceAll(name, "-", "_")
		}
		if o.S3 != nil {
			p.s3Prefix = strings.TrimPrefix(strings.TrimSuffix(o.S3.Prefix, "/")+"/deckle-demo/"+name, "/")
		}
		if o.ClickHouse != nil {
			p.database = o.ClickHouse.Database
			if p.database == "" {
				p.database = "deckle_demo_" + strings.ReplaceAll(strings.TrimPrefix(name, "run-"), "-", "_")
			}
		}
		return p, nil
	}
}

// clockText is a duration as minutes and seconds.
func clockText(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
