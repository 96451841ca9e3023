package main

import (
	"encoding/json"
)

// The grid of Grafana is 24 wide.
const (
	gridWidth               = 24
	statWidth, statHeight   = 4, 4
	graphWidth, graphHeight = 12, 8
)

type object = map[string]any

// dashboardFile writes the dashboard in the form in which Grafana (11 and later) imports and provisions it.
func dashboardFile() []byte {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	panels := []any{}
	y, id := 0, 0
	next := func() int { id++; return id }
	for _, r := range rows() {
		panels = append(panels, object{"id": next(), "type": "row", "title": r.title, "collapsed": false,
			"gridPos": object{"x": 0, "y": y, "w": gridWidth, "h": 1}, "panels": []any{}})
		y++
		x, height := 0, 0
		for i := range r.panels {
			p := &r.panels[i]
			w, h := graphWidth, graphHeight
			if p.stat {
				w, h = statWidth, statHeight
			}
			if x+w > gridWidth || height > 0 && h != height {
				x, y = 0, y+height
			}
			height = h
			panels = append(panels, p.object(next(), source, object{"x": x, "y": y, "w": w, "h": h}))
			x += w
		}
		y += height
	}
	b, err := json.MarshalIndent(object{
		"uid": "deckle", "title": "Deckle", "tags": []string{"deckle"}, "schemaVersion": 39, "version": 1,
		"editable": true, "refresh": "30s", "time": object{"from": "now-3h", "to": "now"}, "timezone": "browser",
		"templating": object{"list": []any{object{"name": "datasource", "label": "Prometheus", "type": "datasource",
			"query": "prometheus", "refresh": 1}}},
		"annotations": object{"list": []any{}}, "panels": panels,
	}, "", "  ")
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return append(b, '\n')
}

func (p *panel) object(id int, source, at object) object {
	kind, options := "timeseries", object{"legend": object{"displayMode": "list", "placement": "bottom"},
		"tooltip": object{"mode": "multi", "sort": "desc"}}
	steps := []any{object{"color": "green", "value": nil}}
	switch {
	case p.redFrom != nil:
		steps = append(steps, object{"color": "red", "value": *p.redFrom})
	case p.redBelow != nil:
		steps = []any{object{"color": "red", "value": nil}, object{"color": "green", "value": *p.redBelow}}
	}
	if p.stat {
		kind, options = "stat", object{"colorMode": "background", "graphMode": "area",
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}}
	}
	targets := []any{}
	for i, e := range p.exprs {
		targets = append(targets, object{"refId": string(rune('A' + i)), "datasource": source, "expr": e.query,
			"legendFormat": e.legend, "instant": p.stat, "range": !p.stat})
	}
	return object{"id": id, "type": kind, "title": p.title, "description": p.about, "datasource": source, "gridPos": at,
		"fieldConfig": object{"defaults": object{"unit": p.unit,
			"thresholds": object{"mode": "absolute", "steps": steps}}, "overrides": []any{}},
		"options": options, "targets": targets}
}
