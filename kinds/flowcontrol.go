// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"strconv"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
)

// Who waits when the API server has too much to do.
var (
	FlowSchema = Kind[flowcontrolv1.FlowSchema]{
		Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Name: "FlowSchema", Plural: "flowschemas", Cluster: true,
		Validate:       validateFlowSchema,
		ValidateStatus: validateFlowSchemaStatus,
		Served:         flowSchemaVersions,
		HasStatus:      true,
		Default:        func(s *flowcontrolv1.FlowSchema) { or(&s.Spec.MatchingPrecedence, 1000) },
		Columns: []Column[flowcontrolv1.FlowSchema]{
			nameColumn[flowcontrolv1.FlowSchema](),
			text("PriorityLevel", "The level of its requests.", 0, func(s *flowcontrolv1.FlowSchema) string {
				return s.Spec.PriorityLevelConfiguration.Name
			}),
			number("MatchingPrecedence", "The lowest that matches wins.", func(s *flowcontrolv1.FlowSchema) int64 { return int64(s.Spec.MatchingPrecedence) }),
			text("DistinguisherMethod", "How flows are told apart.", 0, func(s *flowcontrolv1.FlowSchema) string {
				if m := s.Spec.DistinguisherMethod; m != nil {
					return string(m.Type)
				}
				return none
			}),
			ageColumn[flowcontrolv1.FlowSchema](),
			text("MissingPL", "Whether its level does not exist.", 0, func(s *flowcontrolv1.FlowSchema) string {
				for _, c := range s.Status.Conditions {
					if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
						return string(c.Status)
					}
				}
				return "?"
			}),
		},
	}
	PriorityLevelConfiguration = Kind[flowcontrolv1.PriorityLevelConfiguration]{
		Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Name: "PriorityLevelConfiguration", Plural: "prioritylevelconfigurations", Cluster: true,
		Validate:       validatePriorityLevel,
		ValidateStatus: validatePriorityLevelStatus,
		Served:         priorityLevelVersions,
		HasStatus:      true,
		Default:        defaultPriorityLevel,
		Columns: []Column[flowcontrolv1.PriorityLevelConfiguration]{
			nameColumn[flowcontrolv1.PriorityLevelConfiguration](),
			text("Type", "Exempt or Limited.", 0, func(p *flowcontrolv1.PriorityLevelConfiguration) string { return string(p.Spec.Type) }),
			text("NominalConcurrencyShares", "Its share of the server's seats.", 0, func(p *flowcontrolv1.PriorityLevelConfiguration) string {
				if p.Spec.Limited == nil || p.Spec.Limited.NominalConcurrencyShares == nil {
					return none
				}
				return strconv.Itoa(int(*p.Spec.Limited.NominalConcurrencyShares))
			}),
			text("Queues", "How many queues.", 0, queueCell(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.Queues })),
			text("HandSize", "How many queues a flow may use.", 0, queueCell(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.HandSize })),
			text("QueueLengthLimit", "How many wait in a queue at most.", 0, queueCell(func(q *flowcontrolv1.QueuingConfiguration) int32 { return q.QueueLengthLimit })),
			ageColumn[flowcontrolv1.PriorityLevelConfiguration](),
		},
	}
)

func queueCell(of func(*flowcontrolv1.QueuingConfiguration) int32) func(*flowcontrolv1.PriorityLevelConfiguration) string {
	return func(p *flowcontrolv1.PriorityLevelConfiguration) string {
		if p.Spec.Limited == nil || p.Spec.Limited.LimitResponse.Queuing == nil {
			return none
		}
		return strconv.Itoa(int(of(p.Spec.Limited.LimitResponse.Queuing)))
	}
}

func defaultPriorityLevel(p *flowcontrolv1.PriorityLevelConfiguration) {
	if e := p.Spec.Exempt; e != nil {
		orSet(&e.NominalConcurrencyShares, 0)
		orSet(&e.LendablePercent, 0)
	}
	l := p.Spec.Limited
	if l == nil {
		return
	}
	orSet(&l.NominalConcurrencyShares, 30)
	orSet(&l.LendablePercent, 0)
	if q := l.LimitResponse.Queuing; q != nil {
		or(&q.HandSize, 8)
		or(&q.Queues, 64)
		or(&q.QueueLengthLimit, 50)
	}
}
