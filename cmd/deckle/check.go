package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"deckle/node"
	"deckle/node/config"
)

const (
	staticLevel  = "static"
	connectLevel = "connect"
	sampleLevel  = "sample"
)

// checked is what deckle check --json prints.
type checked struct {
	Level    string         `json:"level"`
	Good     bool           `json:"good"` // nothing is wrong; what is not known may be
	Findings []node.Finding `json:"findings"`
	Sample   *node.Sampled  `json:"sample,omitempty"`
}

func newCheckCommand() *cobra.Command {
	var source configFlags
	var level string
	var records int
	var asJSON bool
	cmd := &cobra.Command{
		Use:        "check --config FILE [--level static|connect|sample]",
		Short:      "Try everything that a node will need, and list what is there and what is not",
		SuggestFor: []string{"doctor", "validate", "test", "lint", "preflight"},
		Long: `Check a configuration, and go on after the first thing that is wrong.

  static   reads the file alone, for CI: variables and secrets that are not set here are
           taken as present, and listed
  connect  besides, tries what the node will need: files, certificates, limit of open files,
           disk, ports, the other nodes, each broker, topics and rights, the bucket with a
           conditional put, ClickHouse with version and grants, clocks
  sample   besides, decodes the newest records of the topic, and tells types and letters

✓ it is there, ✗ it is not, ! somebody may want to know, ? it could not be found out. Run it on
the node's machine, as the node's user. Nothing stays: a file in the data folder and an object
in the bucket are written and removed again.

Exit code 0: nothing is wrong; 1: something is; 2: the configuration itself is not good.`,
		Example: `  deckle check --config deckle.yaml --level static      # in CI
  deckle check --config deckle.yaml
  deckle check --config deckle.yaml --level sample --records 5000
  deckle check --config deckle.yaml --json | jq '.findings[] | select(.outcome == "refused")'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{staticLevel, connectLevel, sampleLevel}, level) {
				return usagef("--level %q: give static, connect or sample", level)
			}
			if records < 1 || records > 1_000_000 {
				return usagef("--records %d: give 1 to 1000000", records)
			}
			l, err := source.read(source.path, level == staticLevel)
			if err != nil {
				return err
			}
			c := &checked{Level: level, Findings: []node.Finding{{Check: "configuration", Outcome: node.Fine,
				Text: fmt.Sprintf("%s: node %s of %d, %d shards", source.path, l.Node, len(l.Cluster.Nodes),
					l.Cluster.Shards)}}}
			c.assumed(l)
			if level != staticLevel {
				c.Findings = append(c.Findings, node.Connect(cmd.Context(), l.Config, node.Deps{})...)
			} else if err := node.CheckRules(l.Config); err != nil {
				c.Findings = append(c.Findings, node.Finding{Check: "rules", Outcome: node.Refused, Text: err.Error()})
			}
			if level == sampleLevel {
				if c.Sample, err = node.Sample(cmd.Context(), l.Config, node.Deps{}, records); err != nil {
					c.Findings = append(c.Findings, node.Finding{Check: "sample", Outcome: node.Failed,
						Text: err.Error()})
				}
			}
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			return c.print(cmd.OutOrStdout(), asJSON)
		},
	}
	source.add(cmd)
	cmd.Flags().StringVar(&level, "level", connectLevel, "static, connect or sample")
	cmd.Flags().IntVar(&records, "records", 1000, "how many records a sample has at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// assumed lists what --level static has taken as present.
func (c *checked) assumed(l *config.Loaded) {
	for _, a := range l.Assumed {
		text := "the environment variable " + a.Name + " is not set here"
		if a.File != "" {
			text = "the file " + a.File + " cannot be read here"
		}
		c.Findings = append(c.Findings, node.Finding{Check: a.Key, Outcome: node.Unknown,
			Text: text + ", and is taken as present"})
	}
}

var outcomeMarks = map[node.Outcome]string{node.Fine: "✓", node.Unknown: "?", node.Advice: "!", node.Failed: "✗",
	node.Refused: "✗"}

// judge sets Good, and returns how many are wrong.
func (c *checked) judge() (wrong int) {
	for i := range c.Findings {
		if o := c.Findings[i].Outcome; o == node.Failed || o == node.Refused {
			wrong++
		}
	}
	c.Good = wrong == 0
	return wrong
}

// print prints the list, and returns errNotEqual if something is wrong.
func (c *checked) print(w io.Writer, asJSON bool) error {
	wrong := c.judge()
	if asJSON {
		if err := printJSON(w, c); err != nil {
			return err
		}
	} else {
		var b strings.Builder
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "%s %s: %s\n", outcomeMarks[f.Outcome], f.Check, oneLine(f.Text))
			if f.Todo != "" {
				fmt.Fprintf(&b, "    %s\n", oneLine(f.Todo))
			}
		}
		c.printSample(&b)
		if wrong == 0 {
			b.WriteString("nothing is wrong\n")
		} else {
			fmt.Fprintf(&b, "%d of %d are wrong\n", wrong, len(c.Findings))
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return errNotEqual
	}
	return nil
}

func (c *checked) printSample(b *strings.Builder) {
	s := c.Sample
	if s == nil {
		return
	}
	fmt.Fprintf(b, "\n%d records, %d with a key, %d without a value\n", s.Records, s.Keyed, s.Empty)
	share := func(n int) float64 { return 100 * float64(n) / float64(max(s.Records, 1)) }
	for _, part := range []struct {
		name   string
		counts map[string]int
	}{{"event", s.Types}, {"dead letter", s.Letters}, {"left out", s.Left}} {
		names := slices.SortedFunc(maps.Keys(part.counts), func(a, b string) int {
			return cmp.Or(part.counts[b]-part.counts[a], strings.Compare(a, b))
		})
		for _, name := range names {
			line := fmt.Sprintf("%8d %5.1f %%  %s %s", part.counts[name], share(part.counts[name]), part.name,
				oneLine(name))
			if part.name == "dead letter" && s.Example[name] != "" {
				line += ", such as: " + oneLine(s.Example[name])
			}
			b.WriteString(line + "\n")
		}
	}
	b.WriteString("\n")
}

// oneLine is a text from elsewhere as one line without control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
