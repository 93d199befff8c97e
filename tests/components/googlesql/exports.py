"""The tables that Google Analytics exports to BigQuery, with the columns that Google documents.

Google Analytics 4: https://support.google.com/analytics/answer/7029846
Analytics 360: https://support.google.com/analytics/answer/3437719
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

_Fields = dict[str, pa.DataType]


def _of(kind: pa.DataType, names: str) -> _Fields:
    """Return fields of one type, by their names."""
    return dict.fromkeys(names.split(), kind)


def _strings(names: str) -> _Fields:
    return _of(pa.string(), names)


def _integers(names: str) -> _Fields:
    return _of(pa.int64(), names)


def _floats(names: str) -> _Fields:
    return _of(pa.float64(), names)


def _record(*fields: _Fields) -> pa.DataType:
    return pa.struct([field for group in fields for field in group.items()])


def _repeated(*fields: _Fields) -> pa.DataType:
    return pa.list_(_record(*fields))


_VALUE = (_strings("string_value"), _integers("int_value"), _floats("float_value double_value"))
_PARAMETERS = _repeated(_strings("key"), {"value": _record(*_VALUE)})
_CAMPAIGN = (
    "campaign_id campaign_name source medium term content source_platform creative_format marketing_tactic"
)

GA4 = pa.schema(
    {
        **_strings("event_date"),
        **_integers("event_timestamp"),
        **_strings("event_name"),
        "event_params": _PARAMETERS,
        **_integers("event_previous_timestamp"),
        **_floats("event_value_in_usd"),
        **_integers("event_bundle_sequence_id event_server_timestamp_offset"),
        **_strings("user_id user_pseudo_id"),
        "privacy_info": _record(_strings("analytics_storage ads_storage uses_transient_token")),
        "user_properties": _repeated(
            _strings("key"), {"value": _record(*_VALUE, _integers("set_timestamp_micros"))}
        ),
        **_integers("user_first_touch_timestamp"),
        "user_ltv": _record(_floats("revenue"), _strings("currency")),
        "device": _record(
            _strings(
                "category mobile_brand_name mobile_model_name mobile_marketing_name mobile_os_hardware_model "
                "operating_system operating_system_version vendor_id advertising_id language "
                "is_limited_ad_tracking"
            ),
            _integers("time_zone_offset_seconds"),
            _strings("browser browser_version"),
            {"web_info": _record(_strings("browser browser_version hostname"))},
        ),
        "geo": _record(_strings("city country continent region sub_continent metro")),
        "app_info": _record(_strings("id version install_store firebase_app_id install_source")),
        "traffic_source": _record(_strings("name medium source")),
        **_strings("stream_id platform"),
        "event_dimensions": _record(_strings("hostname")),
        "ecommerce": _record(
            _integers("total_item_quantity"),
            _floats(
                "purchase_revenue_in_usd purchase_revenue refund_value_in_usd refund_value "
                "shipping_value_in_usd shipping_value tax_value_in_usd tax_value"
            ),
            _integers("unique_items"),
            _strings("transaction_id"),
        ),
        "items": _repeated(
            _strings(
                "item_id item_name item_brand item_variant item_category item_category2 item_category3 "
                "item_category4 item_category5"
            ),
            _floats("price_in_usd price"),
            _integers("quantity"),
            _floats("item_revenue_in_usd item_revenue item_refund_in_usd item_refund"),
            _strings(
                "coupon affiliation location_id item_list_id item_list_name item_list_index promotion_id "
                "promotion_name creative_name creative_slot"
            ),
            {"item_params": _PARAMETERS},
        ),
        "collected_traffic_source": _record(
            _strings(" ".join(f"manual_{name}" for name in _CAMPAIGN.split()) + " gclid dclid srsltid")
        ),
        **_of(pa.bool_(), "is_active_user"),
        **_integers("batch_event_index batch_page_id batch_ordering_id"),
        "session_traffic_source_last_click": _record(
            {
                "manual_campaign": _record(_strings(_CAMPAIGN)),
                "google_ads_campaign": _record(
                    _strings("customer_id account_name campaign_id campaign_name ad_group_id ad_group_name")
                ),
            }
        ),
        "publisher": _record(_floats("ad_revenue_in_usd"), _strings("ad_format ad_source_name ad_unit_id")),
    }
)

_DIMENSIONS = _repeated(_integers("index"), _strings("value"))

GA360 = pa.schema(
    {
        **_integers("visitorId visitNumber visitId visitStartTime"),
        **_strings("date"),
        "totals": _record(
            _integers(
                "visits hits pageviews timeOnSite bounces transactions transactionRevenue newVisits "
                "screenviews uniqueScreenviews timeOnScreen totalTransactionRevenue sessionQualityDim"
            )
        ),
        "trafficSource": _record(
            _strings("referralPath campaign source medium keyword adContent"),
            _of(pa.bool_(), "isTrueDirect"),
            _strings("campaignCode"),
        ),
        **_strings("socialEngagementType"),
        "device": _record(
            _strings("browser browserVersion browserSize operatingSystem operatingSystemVersion"),
            _of(pa.bool_(), "isMobile"),
            _strings("mobileDeviceBranding mobileDeviceModel language screenResolution deviceCategory"),
        ),
        "geoNetwork": _record(_strings("continent subContinent country region metro city networkDomain")),
        "customDimensions": _DIMENSIONS,
        "hits": _repeated(
            _integers("hitNumber time hour minute"),
            _of(pa.bool_(), "isSecure isInteraction isEntrance isExit"),
            _strings("referer"),
            {
                "page": _record(_strings("pagePath hostname pageTitle searchKeyword searchCategory")),
                "transaction": _record(
                    _strings("transactionId"), _integers("transactionRevenue"), _strings("affiliation")
                ),
                "item": _record(_strings("transactionId productName productSku"), _integers("itemQuantity")),
                "contentInfo": _record(_strings("contentDescription")),
                "appInfo": _record(_strings("name version id installerId screenName")),
                "exceptionInfo": _record(_strings("description"), _of(pa.bool_(), "isFatal")),
                "eventInfo": _record(
                    _strings("eventCategory eventAction eventLabel"), _integers("eventValue")
                ),
                "product": _repeated(
                    _strings("productSKU v2ProductName v2ProductCategory productBrand"),
                    _integers("productRevenue productPrice productQuantity"),
                    {"customDimensions": _DIMENSIONS},
                ),
                "customVariables": _repeated(_integers("index"), _strings("customVarName customVarValue")),
                "customDimensions": _DIMENSIONS,
                "customMetrics": _repeated(_integers("index value")),
            },
            _strings("type"),
            {"social": _record(_strings("socialInteractionNetwork socialInteractionAction"))},
            _strings("dataSource"),
        ),
        **_strings("fullVisitorId userId clientId channelGrouping"),
        "privacyInfo": _record(_strings("ads_storage analytics_storage uses_transient_token")),
    }
)


def export(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows of an export; columns and fields that they lack are NULL."""
    return pa.table([pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema)
