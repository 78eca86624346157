_base_ = './faster_rcnn_dysample.py'

# Modulated deformable convolutions (DCNv2) in every block of C3 to C5, and DySample in the neck; see docs/sampling.md.
model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
