// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// APIService is apiregistration.k8s.io/v1 APIService: a group and version of the API, answered here or, with
// spec.service, by another server.
var APIService = Kind[apiregistrationv1.APIService]{
	Group: "apiregistration.k8s.io", Version: "v1", Name: "APIService", Plural: "apiservices",
	Categories: []string{"api-extensions"}, Cluster: true, HasStatus: true, NoGeneration: true,
	Storage: "apiregistration.k8s.io/apiservices",
	Default: func(a *apiregistrationv1.APIService) {
		if a.Spec.Service != nil && a.Spec.Service.Port == nil {
			https := int32(443)
			a.Spec.Service.Port = &https
		}
	},
	ValidateName: pathSegment,
	Validate:     validateAPIService,
	ValidateStatus: func(new, _ *apiregistrationv1.APIService) field.ErrorList {
		f := &faults{}
		for i, c := range new.Status.Conditions {
			supported(f, field.NewPath("status", "conditions").Index(i).Child("status"), c.Status,
				apiregistrationv1.ConditionTrue, apiregistrationv1.ConditionFalse, apiregistrationv1.ConditionUnknown)
		}
		return f.list
	},
	Columns: []Column[apiregistrationv1.APIService]{
		nameColumn[apiregistrationv1.APIService](),
		text("Service", "Who answers it.", 0, func(a *apiregistrationv1.APIService) string {
			if a.Spec.Service == nil {
				return "Local"
			}
			return a.Spec.Service.Namespace + "/" + a.Spec.Service.Name
		}),
		text("Available", "Whether it answers.", 0, func(a *apiregistrationv1.APIService) string {
			for _, c := range a.Status.Conditions {
				if c.Type == apiregistrationv1.Available {
					if c.Status == apiregistrationv1.ConditionTrue {
						return string(c.Status)
					}
					return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
				}
			}
			return "Unknown"
		}),
		ageColumn[apiregistrationv1.APIService](),
	},
}

func validateAPIService(a *apiregistrationv1.APIService) field.ErrorList {
	f := &faults{}
	spec, at := &a.Spec, field.NewPath("spec")
	if want := spec.Version + "." + spec.Group; a.Name != want {
		f.invalid(field.NewPath("metadata", "name"), a.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want))
	}
	if spec.Group == "" && spec.Version != "v1" {
		f.required(at.Child("group"), "only v1 may have an empty group and it better be legacy kube")
	}
	if spec.Group != "" {
		f.each(at.Child("group"), spec.Group, validation.IsDNS1123Subdomain(spec.Group))
	}
	f.each(at.Child("version"), spec.Version, validation.IsDNS1035Label(spec.Version))
	if spec.GroupPriorityMinimum <= 0 || spec.GroupPriorityMinimum > 20000 {
		f.invalid(at.Child("groupPriorityMinimum"), spec.GroupPriorityMinimum, "must be positive and less than 20000")
	}
	if spec.VersionPriority <= 0 || spec.VersionPriority > 1000 {
		f.invalid(at.Child("versionPriority"), spec.VersionPriority, "must be positive and less than 1000")
	}
	if spec.Service == nil {
		if len(spec.CABundle) > 0 {
			f.invalid(at.Child("caBundle"), fmt.Sprintf("%d bytes", len(spec.CABundle)), "local APIServices may not have a caBundle")
		}
		if spec.InsecureSkipTLSVerify {
			f.invalid(at.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify")
		}
		return f.list
	}
	if spec.Service.Namespace == "" {
		f.required(at.Child("service", "namespace"), "")
	}
	if spec.Service.Name == "" {
		f.required(at.Child("service", "name"), "")
	}
	if p := spec.Service.Port; p != nil && (*p < 1 || *p > 65535) {
		f.invalid(at.Child("service", "port"), *p, "port is not valid: must be between 1 and 65535, inclusive")
	}
	if spec.InsecureSkipTLSVerify && len(spec.CABundle) > 0 {
		f.invalid(at.Child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present")
	}
	return f.list
}
