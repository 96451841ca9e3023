package event

// objectNames learns the names that stand in engagement_metrics and metadata, and in which order. A guess that is right
// spares the scan of the name, and numbers prove for nothing that the names of an object differ.
type objectNames struct {
	known  []objectName // by number; the first stands for none
	byName map[string]uint8
	first  [2]uint8 // the name that began the last metadata, and the last engagement_metrics
}

type objectName struct {
	quoted string
	metric metricKey
	next   uint8 // the name that followed last
}

const (
	maxKnownNames = 256
	maxKnownName  = 64 // bytes
)

// begin makes room for names of the next record, once there is none.
func (n *objectNames) begin() {
	if len(n.known) == 0 || len(n.known) == maxKnownNames {
		if n.byName == nil {
			n.byName = map[string]uint8{}
			n.known = make([]objectName, 0, maxKnownNames) // never moved: guesses point into it
		}
		clear(n.byName)
		clear(n.known)
		n.known = append(n.known[:0], objectName{metric: numMetricKeys})
		n.first = [2]uint8{}
	}
}

// number returns the number of a name without escapes, 0 if there is no room for it.
func (n *objectNames) number(name []byte) uint8 {
	if k, ok := n.byName[alias(name)]; ok {
		return k
	}
	if len(name) > maxKnownName || len(n.known) == maxKnownNames {
		return 0
	}
	k := uint8(len(n.known))
	quoted := `"` + string(name) + `"`
	text := quoted[1 : len(quoted)-1]
	n.known = append(n.known, objectName{quoted: quoted, metric: parseMetricKey(text)})
	n.byName[text] = k
	return k
}

// nameSet are numbers of names.
type nameSet [maxKnownNames / 64]uint64

// add returns false if the set has the number already.
func (s *nameSet) add(k uint8) bool {
	w, bit := &s[k>>6], uint64(1)<<(k&63)
	had := *w & bit
	*w |= bit
	return had == 0
}

// object reads the object of engagement_metrics or metadata at i. If it is metrics, the values that sessions read are
// kept; of a name that stands twice, the last counts. suspect says that NormalizeJSON may have to change the object:
// otherwise this reading has proved that it need not.
func (d *Decoder) object(i int, metrics bool) (end int, suspect bool) {
	what, first := "expected a comma or the end of an object or array", &d.names.first[0]
	if metrics {
		what, first = "expected a comma or the end of an object", &d.names.first[1]
	}
	if i = d.space(i + 1); i < len(d.in) && d.in[i] == '}' {
		return i + 1, false
	}
	var seen nameSet
	guess := first // where the number of the next name is guessed and learned
	for {
		var metric metricKey
		k := *guess
		known := &d.names.known[k]
		if q := known.quoted; k != 0 && len(d.in)-i > len(q) && string(d.in[i:i+len(q)]) == q {
			i = d.colon(i + len(q))
			metric = known.metric
		} else if k, metric, i = d.objectName(i); k != 0 {
			*guess = k
		}
		if i < 0 {
			return -1, false
		}
		suspect = suspect || k == 0 || !seen.add(k)
		if k != 0 {
			guess = &d.names.known[k].next
		}
		from := i
		if i < len(d.in) && (d.in[i] == '-' || digit(d.in[i])) {
			var integer bool
			if i, integer = d.number(i); i >= 0 {
				odd := i-from > 15 || !integer || i-from == 2 && d.in[from] == '-'
				suspect = suspect || odd && rewrites(d.in[from:i], integer)
			}
		} else {
			nested := i < len(d.in) && (d.in[i] == '{' || d.in[i] == '[')
			if i = d.value(i, 2); nested && i >= 0 && d.real && !suspect {
				suspect = !d.json.clean(d.in[from:i])
			}
		}
		if i < 0 {
			return -1, false
		}
		if metrics && metric != numMetricKeys {
			d.metrics[metric] = alias(d.in[from:i])
		}
		i = d.space(i)
		if i < len(d.in) && d.in[i] == '}' {
			return i + 1, suspect
		}
		if i >= len(d.in) || d.in[i] != ',' {
			return d.syntax(i, what), false
		}
		i = d.space(i + 1)
	}
}

// objectName reads a name that was not guessed: its number, 0 if it has none, what it names among the fields that
// sessions read, and where the value begins.
func (d *Decoder) objectName(i int) (k uint8, metric metricKey, next int) {
	end, next, escaped := d.key(i)
	if next < 0 {
		return 0, numMetricKeys, next
	}
	raw := d.in[i+1 : end]
	if escaped {
		return 0, parseMetricKey(plainText(raw, true)), next
	}
	if k = d.names.number(raw); k != 0 {
		return k, d.names.known[k].metric, next
	}
	return 0, parseMetricKey(alias(raw)), next
}

// ArticleMetrics returns what Event.Progress and Event.Complete are for an article_view with these engagement_metrics,
// by the rules of FormsReal. It serves events that were decoded before there were such rules.
func ArticleMetrics(engagementMetrics string) (progress uint8, complete bool) {
	var d Decoder
	d.names.begin()
	d.scanner = scanner{in: bytesOf(engagementMetrics)}
	if i := d.space(0); i < len(d.in) && d.in[i] == '{' {
		if end, _ := d.object(i, true); end >= 0 {
			d.metrics.read(ArticleView)
			return d.metrics.article()
		}
	}
	return 0, false
}
